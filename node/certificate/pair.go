package certificate

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

// Pair is a key pair in files that may be replaced while the hub runs. It looks at the files
// during handshakes. So it needs no goroutine, and notices each way of replacing files (Kubernetes
// swaps a symbolic link).
type Pair struct {
	CertFile string // of the certificate chain
	keyFile  string

	Logger *slog.Logger // set before the first handshake

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

// Open loads a key pair. It returns nil if both files are empty. flags is the beginning
// of the pair's flags.
func Open(flags, certFile, keyFile string) (*Pair, error) {
	switch {
	case certFile == "" && keyFile == "":
		return nil, nil //nolint:nilnil // no TLS was asked for
	case certFile == "" || keyFile == "":
		return nil, fmt.Errorf("%s-cert-file and %s-key-file go together", flags, flags)
	}
	c := &Pair{CertFile: certFile, keyFile: keyFile, Logger: slog.New(slog.DiscardHandler)}
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

// ListenerConfig returns the TLS configuration of a listener with this certificate.
func (c *Pair) ListenerConfig(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols,
		GetCertificate: c.CurrentPair,
	}
}

// CurrentPair returns the key pair for a handshake. It is safe for concurrent use. The old pair
// stays in force if the files can't be read or do not fit each other, perhaps because they are
// being replaced.
func (c *Pair) CurrentPair(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certificateCheck {
		c.checked = now
		c.reloadLocked()
	}
	return c.pair, nil
}

// Reload loads the files now, also if they look the same. It reports whether they are in force.
func (c *Pair) Reload() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checked, c.stamp = time.Now(), certificateStamp{}
	return c.reloadLocked()
}

// reloadLocked loads the files if they look new. It reports whether the pair in force is that of
// the files.
func (c *Pair) reloadLocked() bool {
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
		c.Logger.Error("certificate not reloaded, the old one stays",
			slog.String("cert_file", c.CertFile), slog.Any("error", err))
		return false
	}
	c.pair = pair
	c.Logger.Info("certificate reloaded", slog.String("cert_file", c.CertFile),
		slog.Time("not_after", pair.Leaf.NotAfter))
	return true
}

func (c *Pair) readStamp() (certificateStamp, error) {
	cert, err := os.Stat(c.CertFile)
	if err != nil {
		return certificateStamp{}, err
	}
	key, err := os.Stat(c.keyFile)
	if err != nil {
		return certificateStamp{}, err
	}
	return certificateStamp{cert.ModTime(), key.ModTime(), cert.Size(), key.Size()}, nil
}

func (c *Pair) loadPair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.keyFile)
	if err != nil {
		return nil, err
	}
	return &pair, nil
}
