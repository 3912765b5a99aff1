package links

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// door is a way in which a hub carries its clients' links. Every promise holds behind each door.
type door struct {
	name   string
	secure bool // TLS
	each   bool // a goroutine waits for each link
	flags  []string
}

var doors = []door{
	{name: "parked"},
	{name: "parked under TLS", secure: true},
	{name: "a goroutine for each", each: true, flags: []string{"--goroutine-per-link"}},
}

// eachDoor runs a test behind each door.
func eachDoor(t *testing.T, test func(*testing.T, door)) {
	t.Helper()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) { test(t, d) })
	}
}

// open starts a hub with this door alone, without secrets, until the test ends.
func (d door) open(t *testing.T, flags ...string) *bed.Process {
	t.Helper()
	// A busy machine may keep a client from its handshake for longer than the default.
	flags = append([]string{"--handshake-timeout", "1m"}, flags...)
	flags = append(flags, d.flags...)
	if d.secure {
		certificate, key := keyPair(t)
		flags = append(flags, "--tls-cert-file", certificate, "--tls-key-file", key)
	}
	return bed.StartAlone(t, flags...)
}

// clientTLS accepts any certificate.
var clientTLS = &tls.Config{InsecureSkipVerify: true}

// keyPair writes files with a self-signed certificate and its key.
func keyPair(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"hub.test"},
	}
	public, err := x509.CreateCertificate(
		rand.Reader, template, template, &private.PublicKey, private,
	)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(
			path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600,
		); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("tls.crt", "CERTIFICATE", public), write("tls.key", "PRIVATE KEY", secret)
}

// remains has the resources of a hub after it has tidied up.
type remains struct {
	bed.Vitals

	heap int // bytes in use
}

// anything is more than a hub may have.
var anything = bed.Vitals{Goroutines: math.MaxInt, Files: math.MaxInt}

// check checks that no counted resource has grown.
func (r remains) check(t *testing.T, before remains) {
	t.Helper()
	if r.Goroutines > before.Goroutines || r.Files > before.Files {
		t.Errorf("the hub has %+v, before it had %+v", r, before)
	}
}

// Bounds of the remaining heap of a hub, in bytes. A collection keeps the grown tables of the hub
// (some 100 bytes for each connection). It also keeps the descriptors of goroutines, of which Go
// keeps as many as ever ran at once. That is at most one for each link, also for parked links: all
// of them may have something to say at once while the hub gets no processor.
const (
	leftOfGoroutine = 480
	leftOfEach      = leftOfGoroutine + 288
	leftOfNoise     = 64 << 10 // of everything else
)

// mayLeave is how many bytes may be left of so many connections.
func mayLeave(connections int) int { return connections*leftOfEach + leftOfNoise }

// mayAdd is the number of bytes that as many connections may add to the earlier remains. The
// smallest object that a hub could forget to release for a connection, its State, is larger.
func mayAdd(connections int) int { return connections*64 + leftOfNoise }

// remainsOf waits until the hub has no link, and no more goroutines and files than want. Then it
// collects the hub's garbage.
func remainsOf(t *testing.T, p *bed.Process, want bed.Vitals) remains {
	t.Helper()
	testkit.Eventually(t, "the last link is gone", func() bool {
		return p.Sum(t, "connhub_links") == 0
	})
	return remains{p.CalmVitals(t, want), p.CollectHeap(t)}
}
