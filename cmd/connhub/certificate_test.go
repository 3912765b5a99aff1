package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/testkit"
)

// writeCertificate writes a new self-signed pair for 127.0.0.1 into dir.
func writeCertificate(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for path, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}

// nameOf is the common name of the certificate that a handshake would get now.
func nameOf(t *testing.T, c *certificate) string {
	t.Helper()
	pair, err := c.currentPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.Subject.CommonName
}

func TestCertificateIsReadAgainWhenItsFilesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile := writeCertificate(t, dir, "first")
		c, err := openCertificate("--tls", certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		var log testkit.LockedBuffer
		c.logger = slog.New(newFormat(&log, "json", 0, false))
		if got := nameOf(t, c); got != "first" {
			t.Errorf("at first: %s", got)
		}
		writeCertificate(t, dir, "second")
		if got := nameOf(t, c); got != "first" {
			t.Errorf("before the next look: %s", got)
		}
		time.Sleep(certificateCheck)
		if got := nameOf(t, c); got != "second" {
			t.Errorf("after it: %s", got)
		}

		// Half of a replacement, rubbish and missing files leave the old pair in force.
		otherCert, _ := writeCertificate(t, t.TempDir(), "third")
		half, err := os.ReadFile(otherCert)
		if err != nil {
			t.Fatal(err)
		}
		for _, content := range [][]byte{half, []byte("rubbish")} {
			if err := os.WriteFile(certFile, content, 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(certificateCheck)
			if got := nameOf(t, c); got != "second" {
				t.Errorf("with %.10q in the file: %s", content, got)
			}
		}
		if err := os.Remove(certFile); err != nil {
			t.Fatal(err)
		}
		time.Sleep(certificateCheck)
		if got := nameOf(t, c); got != "second" {
			t.Errorf("without the file: %s", got)
		}
		if got := strings.Count(
			log.String(), "certificate not reloaded, the old one stays",
		); got != 3 {
			t.Errorf("%d complaints in the log:\n%s", got, log.String())
		}
		writeCertificate(t, dir, "fourth")
		time.Sleep(certificateCheck)
		if got := nameOf(t, c); got != "fourth" {
			t.Errorf("in the end: %s", got)
		}
	})
}

func TestBothPortsTalkTLSWithTheCertificateOfNow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := writeCertificate(t, dir, "first")
	var plan *serverPlan
	hub := start(t, func(p *serverPlan) {
		var err error
		if p.clientsTLS, err = openCertificate("--tls", certFile, keyFile); err != nil {
			t.Fatal(err)
		}
		if p.controlTLS, err = openCertificate("--control-tls", certFile, keyFile); err != nil {
			t.Fatal(err)
		}
		plan = p
	})
	check := func(name string) {
		t.Helper()
		pool := x509.NewCertPool()
		content, err := os.ReadFile(certFile)
		if err != nil || !pool.AppendCertsFromPEM(content) {
			t.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		defer transport.CloseIdleConnections()
		conn, response, err := websocket.Dial(t.Context(), "wss://"+hub.clients+"/ws?user=ann",
			&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.CloseNow() }()
		if got := response.TLS.PeerCertificates[0].Subject.CommonName; got != name {
			t.Errorf("clients see the certificate %s, want %s", got, name)
		}
		// The command checks the certificate of the control port against the new file.
		if got := mustRun(
			t, "send", "--addr="+hub.control, "--tls-ca-file="+certFile, "--user=ann", name,
		); !strings.HasPrefix(got, "✓ ") {
			t.Errorf("send: %s", got)
		}
		if got := next(t, conn); got != name {
			t.Errorf("over TLS came %q", got)
		}
	}
	check("first")
	writeCertificate(t, dir, "second")
	for _, c := range []*certificate{plan.clientsTLS, plan.controlTLS} {
		c.mu.Lock()
		c.checked = time.Time{} // as if certificateCheck had gone by
		c.mu.Unlock()
	}
	check("second")
	if got := mustRun(
		t, "token", "--addr="+hub.control, "--tls-ca-file="+certFile,
	); !strings.HasPrefix(got, "wss://") {
		t.Errorf("token: %s", got)
	}
	if r := connhub(t, "", "hubs", "--addr="+hub.control, "--tls"); r.code != terminal.ExitError ||
		!strings.Contains(r.stderr, "certificate signed by unknown authority") {
		t.Errorf("an unknown certificate: exit %d, %s", r.code, r.stderr)
	}
}

func TestTLSAtOneEndOnlyIsHintedAt(t *testing.T) {
	t.Parallel()
	certFile, keyFile := writeCertificate(t, t.TempDir(), "hub")
	secure := start(t, func(p *serverPlan) {
		var err error
		if p.controlTLS, err = openCertificate("--control-tls", certFile, keyFile); err != nil {
			t.Fatal(err)
		}
	})
	plain := start(t, nil)
	const hint = ". If the hub has"
	for name, tt := range map[string]struct{ addr, flag, want string }{
		"the hub has TLS":     {secure.control, "--json", hint + " TLS, use --tls\n"},
		"the command has TLS": {plain.control, "--tls", hint + " no TLS, leave out --tls and"},
		"both have TLS":       {secure.control, "--tls", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := connhub(t, "", "hubs", "--addr="+tt.addr, tt.flag)
			told := strings.Contains(r.stderr, hint)
			if r.code != terminal.ExitError ||
				told != (tt.want != "") || !strings.Contains(r.stderr, tt.want) {
				t.Errorf("exit %d, %q, want %q in it", r.code, r.stderr, tt.want)
			}
		})
	}
}
