package main

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certificateCheck is the least time between two looks at the files. A handshake in between uses
// the loaded pair.
const certificateCheck = time.Second

// certificate is a key pair in files that may be replaced while the hub runs. It looks at the files
// during handshakes. So it needs no goroutine, and notices each way of replacing files (Kubernetes
// swaps a symbolic link).
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger // set before the first handshake

	mu      sync.Mutex
	pair    *tls.Certificate
	stamp   certificateStamp // of pair, or of the files that failed to load last
	checked time.Time
}

// certificateStamp is the state of the two files. It changes if a file does.
type certificateStamp struct {
	certTime, keyTime time.Time
	certSize, keySize int64
}

// openCertificate loads a key pair. It returns nil if both files are empty. flags is the beginning
// of the pair's flags.
func openCertificate(flags, certFile, keyFile string) (*certificate, error) {
	switch {
	case certFile == "" && keyFile == "":
		return nil, nil //nolint:nilnil // no TLS was asked for
	case certFile == "" || keyFile == "":
		return nil, fmt.Errorf("%s-cert-file and %s-key-file go together", flags, flags)
	}
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: slog.New(slog.DiscardHandler)}
	var err error
	if c.stamp, err = c.readStamp(); err == nil {
		c.pair, err = c.loadPair()
	}
	if err != nil {
		return nil, fmt.Errorf("%s-cert-file: %w", flags, err)
	}
	c.checked = time.Now()
	return c, nil
}

// listenerConfig returns the TLS configuration of a listener with this certificate.
func (c *certificate) listenerConfig(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetCertificate: c.currentPair,
	}
}

// currentPair returns the key pair for a handshake. The old pair stays in force if the files can't
// be read or do not fit each other, perhaps because they are being replaced.
func (c *certificate) currentPair(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certificateCheck {
		c.checked = now
		c.reloadLocked()
	}
	return c.pair, nil
}

// reloadPair loads the files now, also if they look the same. It reports whether they are in force.
func (c *certificate) reloadPair() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked, c.stamp = time.Now(), certificateStamp{}
	return c.reloadLocked()
}

// reloadLocked loads the files if they look new. It reports whether the pair in force is that of
// the files.
func (c *certificate) reloadLocked() bool {
	stamp, err := c.readStamp()
	if err == nil && stamp == c.stamp {
		return true
	}
	var pair *tls.Certificate
	if err == nil {
		c.stamp = stamp
		pair, err = c.loadPair()
	}
	if err != nil {
		c.logger.Error("certificate not reloaded, the old one stays",
			slog.String("cert_file", c.certFile), slog.Any("error", err))
		return false
	}
	c.pair = pair
	c.logger.Info("certificate reloaded", slog.String("cert_file", c.certFile),
		slog.Time("not_after", pair.Leaf.NotAfter))
	return true
}

func (c *certificate) readStamp() (certificateStamp, error) {
	cert, err := os.Stat(c.certFile)
	if err != nil {
		return certificateStamp{}, err
	}
	key, err := os.Stat(c.keyFile)
	if err != nil {
		return certificateStamp{}, err
	}
	return certificateStamp{cert.ModTime(), key.ModTime(), cert.Size(), key.Size()}, nil
}

func (c *certificate) loadPair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}
