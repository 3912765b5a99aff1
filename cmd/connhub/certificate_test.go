package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/certificate"
	"github.com/connhub/connhub/node/nodetest"
)

func TestBothPortsTalkTLSWithTheCertificateOfNow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := testkit.WriteCertificate(t, dir, "first")
	hub := nodetest.Start(t, func(p *node.Config) {
		var err error
		if p.ClientsTLS, err = certificate.Open("--tls", certFile, keyFile); err != nil {
			t.Fatal(err)
		}
		if p.ControlTLS, err = certificate.Open("--control-tls", certFile, keyFile); err != nil {
			t.Fatal(err)
		}
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
		conn, response, err := websocket.Dial(t.Context(), "wss://"+hub.Clients+"/ws?user=ann",
			&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.CloseNow() }()
		if got := response.TLS.PeerCertificates[0].Subject.CommonName; got != name {
			t.Errorf("clients see the certificate %s, want %s", got, name)
		}
		// The command checks the certificate of the control port against the new file.
		if got := program.MustRun(
			t, "send", "--addr="+hub.Control, "--tls-ca-file="+certFile, "--user=ann", name,
		); !strings.HasPrefix(got, "✓ ") {
			t.Errorf("send: %s", got)
		}
		if got := testkit.NextMessage(t, conn); got != name {
			t.Errorf("over TLS came %q", got)
		}
	}
	check("first")
	testkit.WriteCertificate(t, dir, "second")
	for _, address := range []string{hub.Clients, hub.Control} {
		testkit.Eventually(t, "a handshake looks at the files again", func() bool {
			return servedName(t, address) == "second"
		})
	}
	check("second")
	if got := program.MustRun(
		t, "token", "--addr="+hub.Control, "--tls-ca-file="+certFile,
	); !strings.HasPrefix(got, "wss://") {
		t.Errorf("token: %s", got)
	}
	if r := program.Run(t, "", "hubs", "--addr="+hub.Control,
		"--tls"); r.Code != terminal.ExitError ||
		!strings.Contains(r.Stderr, "certificate signed by unknown authority") {
		t.Errorf("an unknown certificate: exit %d, %s", r.Code, r.Stderr)
	}
}

// servedName returns the common name of the certificate that a port has now.
func servedName(t *testing.T, address string) string {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}
	dialer := &tls.Dialer{Config: config}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestTLSAtOneEndOnlyIsHintedAt(t *testing.T) {
	t.Parallel()
	certFile, keyFile := testkit.WriteCertificate(t, t.TempDir(), "hub")
	secure := nodetest.Start(t, func(p *node.Config) {
		var err error
		if p.ControlTLS, err = certificate.Open("--control-tls", certFile, keyFile); err != nil {
			t.Fatal(err)
		}
	})
	plain := nodetest.Start(t, nil)
	const hint = ". If the hub has"
	for name, tt := range map[string]struct{ addr, flag, want string }{
		"the hub has TLS":     {secure.Control, "--json", hint + " TLS, use --tls\n"},
		"the command has TLS": {plain.Control, "--tls", hint + " no TLS, leave out --tls and"},
		"both have TLS":       {secure.Control, "--tls", ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := program.Run(t, "", "hubs", "--addr="+tt.addr, tt.flag)
			told := strings.Contains(r.Stderr, hint)
			if r.Code != terminal.ExitError ||
				told != (tt.want != "") || !strings.Contains(r.Stderr, tt.want) {
				t.Errorf("exit %d, %q, want %q in it", r.Code, r.Stderr, tt.want)
			}
		})
	}
}
