// Package trust loads the certificates that a TLS client trusts.
package trust

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// File returns a TLS configuration that trusts the certificates (PEM) of the file at path. Without
// a path it trusts those of the system. flag begins the error for a file that can't be used.
func File(flag, path string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if path == "" {
		return c, nil
	}
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in %s", flag, path)
	}
	return c, nil
}
