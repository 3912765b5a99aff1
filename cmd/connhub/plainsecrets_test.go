package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/connhub/connhub/internal/testkit"
)

func TestSecretsInPlainTextAreWarnedOfInOneLine(t *testing.T) {
	t.Parallel()
	const backends, peers = "--backend-secret-file " +
		"in plain text", "--peer-secret-file in plain text"
	peerSecret := testkit.WriteFile(t, "peer", "peer-secret-0123456789-0123456789-0123\n")
	alone := []string{"--single-hub"}
	clustered := []string{"--etcd-endpoints=127.0.0.1:1", "--peer-secret-file=" + peerSecret}
	certFile, keyFile := testkit.WriteCertificate(t, t.TempDir(), "hub")
	secure := []string{"--control-tls-cert-file=" + certFile, "--control-tls-key-file=" + keyFile}
	for name, tt := range map[string]struct {
		listen string
		more   [][]string
		want   []string
	}{
		"alone":                 {":9090", [][]string{alone}, []string{backends}},
		"alone on loopback":     {"localhost:9090", [][]string{alone}, nil},
		"alone with TLS":        {":9090", [][]string{alone, secure}, nil},
		"clustered":             {"0.0.0.0:9090", [][]string{clustered}, []string{backends, peers}},
		"clustered on loopback": {"[::1]:9090", [][]string{clustered}, []string{peers}},
		"clustered with TLS":    {":9090", [][]string{clustered, secure}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			args := []string{
				"serve", "--listen-control=" + tt.listen, "--public-url=https://hub.example",
				"--token-key-file=" + testkit.WriteFile(t, "k", testkit.SomeKey),
				"--backend-secret-file=" + testkit.WriteFile(t, "b", testkit.SomeSecret),
			}
			for _, more := range tt.more {
				args = append(args, more...)
			}
			c, err := parse(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := c.Serve.planHub()
			if err != nil {
				t.Fatal(err)
			}
			var log bytes.Buffer
			plan.LogPlainSecrets(slog.New(slog.NewJSONHandler(&log, nil)))
			if lines := strings.Count(log.String(), `"WARN"`); lines != min(len(tt.want), 1) {
				t.Errorf("%d lines: %s", lines, &log)
			}
			for _, words := range []string{backends, peers} {
				want := strings.Contains(strings.Join(tt.want, " "), words)
				if strings.Contains(log.String(), words) != want {
					t.Errorf("%s, want %q: %v", &log, words, want)
				}
			}
		})
	}
}
