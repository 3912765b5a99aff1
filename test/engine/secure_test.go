//go:build bench && linux

package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"time"
)

// serverTLS is a server's configuration with a certificate that nobody knows.
func serverTLS() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"hub.example"},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}}, nil
}

// clientTLS trusts anybody.
var clientTLS = &tls.Config{InsecureSkipVerify: true}

// follow reads a client under TLS until it is gone: what has come for it can't be told without a Read.
func (c *crowd) follow(s *socket) {
	buffer := make([]byte, 1024)
	for {
		n, err := s.secure.Read(buffer)
		c.mu.Lock()
		if err == nil {
			err = s.parse(buffer[:n])
		}
		if err != nil && c.err == nil && !s.over {
			c.err = err
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}
