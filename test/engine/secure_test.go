//go:build bench && linux

package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"time"
)

// serverTLS returns a server's configuration with a self-signed certificate.
func serverTLS() (*tls.Config, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"hub.example"},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}},
	}, nil
}

// clientTLS accepts any certificate.
var clientTLS = &tls.Config{InsecureSkipVerify: true}

// wire is the transport of TLS. During the handshakes it is the connection; afterwards it is the
// connection's descriptor, and a Read takes only bytes that have arrived. TLS continues after
// EAGAIN, a temporary error, so no goroutine has to wait in a Read.
type wire struct {
	net.Conn

	fd int // 0: during the handshakes
}

// Read reads arrived bytes. EAGAIN means that there are none.
func (w *wire) Read(b []byte) (int, error) {
	if w.fd == 0 {
		return w.Conn.Read(b)
	}
	return readRaw(w.fd, b)
}

// Write writes all of b.
func (w *wire) Write(b []byte) (int, error) {
	if w.fd == 0 {
		return w.Conn.Write(b)
	}
	return len(b), writeRaw(w.fd, b)
}
