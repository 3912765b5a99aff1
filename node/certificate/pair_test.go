package certificate

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/internal/testkit"
)

// nameOf is the common name of the certificate that a handshake would get now.
func nameOf(t *testing.T, c *Pair) string {
	t.Helper()
	pair, err := c.CurrentPair(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pair.Leaf.Subject.CommonName
}

func TestCertificateIsReadAgainWhenItsFilesChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile := testkit.WriteCertificate(t, dir, "first")
		c, err := Open("--tls", certFile, keyFile)
		if err != nil {
			t.Fatal(err)
		}
		var log testkit.LockedBuffer
		c.Logger = slog.New(slog.NewJSONHandler(&log, nil))
		if got := nameOf(t, c); got != "first" {
			t.Errorf("at first: %s", got)
		}
		testkit.WriteCertificate(t, dir, "second")
		if got := nameOf(t, c); got != "first" {
			t.Errorf("before the next look: %s", got)
		}
		time.Sleep(certificateCheck)
		if got := nameOf(t, c); got != "second" {
			t.Errorf("after it: %s", got)
		}

		// Half of a replacement, rubbish and missing files leave the old pair in force.
		otherCert, _ := testkit.WriteCertificate(t, t.TempDir(), "third")
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
		testkit.WriteCertificate(t, dir, "fourth")
		time.Sleep(certificateCheck)
		if got := nameOf(t, c); got != "fourth" {
			t.Errorf("in the end: %s", got)
		}
	})
}
