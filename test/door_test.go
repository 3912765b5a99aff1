package test

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
)

// door is a way in which a hub carries its clients' links: what is promised holds behind each.
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
func (d door) open(t *testing.T, flags ...string) *process {
	t.Helper()
	// A busy machine may keep a client from its handshake for longer than the default.
	flags = append([]string{"--handshake-timeout", "1m"}, flags...)
	flags = append(flags, d.flags...)
	if d.secure {
		certificate, key := keyPair(t)
		flags = append(flags, "--tls-cert-file", certificate, "--tls-key-file", key)
	}
	return startAlone(t, flags...)
}

// clientTLS trusts anybody.
var clientTLS = &tls.Config{InsecureSkipVerify: true}

// keyPair makes files of a certificate that nobody knows, and its key.
func keyPair(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"hub.test"},
	}
	public, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
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
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("tls.crt", "CERTIFICATE", public), write("tls.key", "PRIVATE KEY", secret)
}

// remains is what a hub has when it has tidied up.
type remains struct {
	vitals

	heap int // bytes in use
}

// anything is more than a hub may have.
var anything = vitals{goroutines: math.MaxInt, files: math.MaxInt}

// check holds that there is no more than before, of what is counted.
func (r remains) check(t *testing.T, before remains) {
	t.Helper()
	if r.goroutines > before.goroutines || r.files > before.files {
		t.Errorf("the hub has %+v, before it had %+v", r, before)
	}
}

// What may be left in the hub's heap, bytes. A collection gives back neither what the hub's tables grew to (some 100 bytes of each
// connection) nor the descriptors of goroutines, of which Go keeps as many as ever ran at once: one for each link at most, also where
// links are parked, for all may have something to say at once to a hub that gets no processor.
const (
	leftOfGoroutine = 480
	leftOfEach      = leftOfGoroutine + 288
	leftOfNoise     = 64 << 10 // of what else goes on
)

// mayLeave is how many bytes may be left of so many connections.
func mayLeave(connections int) int { return connections*leftOfEach + leftOfNoise }

// mayAdd is how many bytes as many connections may add to what was left before. The least that a hub can forget of one, its State,
// is more.
func mayAdd(connections int) int { return connections*64 + leftOfNoise }

// collections is how often a hub collects its garbage until nothing is left that only a pool or a finalizer keeps: each takes
// two.
const collections = 4

// remains waits until the hub has no link, and no more goroutines and files than want, and collects its garbage.
func (p *process) remains(t *testing.T, want vitals) remains {
	t.Helper()
	testkit.Eventually(t, "the last link is gone", func() bool { return p.sample(t, "connhub_links") == 0 })
	v := p.calm(t, want)
	// The text form tells what was in use before it was made.
	profile := ""
	for range collections {
		profile = p.get(t, "/debug/pprof/heap?gc=1&debug=1")
	}
	return remains{v, gauge(t, profile, "# HeapAlloc =")}
}

// sample is the sum of a metric's samples that have all the labels.
func (p *process) sample(t *testing.T, name string, labels ...string) int {
	t.Helper()
	return int(sample(t, p.get(t, "/metrics"), name, labels...))
}
