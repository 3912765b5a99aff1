package strangers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// publicURL is the audience of tokens. No test resolves it.
const publicURL = "http://clients.test"

// issuer signs clients' tokens with a key of its own, and publishes the public half.
type issuer struct {
	name    string // of the key
	private *ecdsa.PrivateKey
}

func newIssuer(t *testing.T, name string) issuer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{name, private}
}

// token lets a client into the default namespace.
func (i issuer) token(t *testing.T) string {
	t.Helper()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"aud": publicURL + "/client/hubs/default", "exp": time.Now().Add(time.Hour).Unix(),
		"sub": "ann",
	})
	token.Header["kid"] = i.name
	signed, err := token.SignedString(i.private)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

// keySite is where an identity provider publishes its keys.
type keySite struct {
	set     atomic.Pointer[string]
	fetched atomic.Int32
}

func (s *keySite) publish(t *testing.T, i issuer) {
	t.Helper()
	key := testkit.JWK(t, i.private.Public(), i.name, `"use":"sig"`, `"alg":"ES256"`)
	set := testkit.JWKSet(key)
	s.set.Store(&set)
}

func (s *keySite) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	s.fetched.Add(1)
	_, _ = io.WriteString(w, *s.set.Load())
}

// askedAgainAfter is the time for which a hub does not ask its issuer again, whichever client comes
// with whichever key.
const askedAgainAfter = 10 * time.Second

// letsIn reports whether the hub accepts a token. It refuses a token with 401.
func letsIn(t *testing.T, p *bed.Process, token string) bool {
	t.Helper()
	path := "/client/hubs/default?access_token=" + token
	c, err := bed.DialClient(t.Context(), net.Dialer{}, p.Clients, path, "")
	if err == nil {
		_ = c.Conn.Close()
		return true
	}
	if !strings.HasPrefix(err.Error(), "handshake: 401 ") {
		t.Errorf("refused with %v", err)
	}
	return false
}

// TestKeysOfAnIdentityProviderComeFromItsSite proves that a hub knows the keys that are published
// at a URL. When a client comes with a new key, the hub asks there without a restart, but not again
// and again, however many unknown keys come.
func TestKeysOfAnIdentityProviderComeFromItsSite(t *testing.T) {
	t.Parallel()
	before, after, stranger, forger := newIssuer(t, "1"),
		newIssuer(t, "2"), newIssuer(t, "3"), newIssuer(t, "1")
	site := &keySite{}
	site.publish(t, before)
	server := httptest.NewServer(site)
	t.Cleanup(server.Close)
	secrets := filepath.Join(t.TempDir(), "backend.secrets")
	if err := os.WriteFile(secrets, []byte(strings.Repeat("s", 40)), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	p := bed.Start(t, "serve", "--single-hub", "--drain-delay", "0s", "--listen-clients",
		"127.0.0.1:0", "--listen-control", "127.0.0.1:0", "--listen-ops", "127.0.0.1:0",
		"--public-url", publicURL, "--backend-secret-file", secrets, "--token-jwks",
		server.URL+"/jwks.json")
	p.Await(t, p.Ready)

	if !letsIn(t, p, before.token(t)) {
		t.Error("the key that is published is refused")
	}
	for range 20 {
		if letsIn(t, p, stranger.token(t)) || letsIn(t, p, forger.token(t)) {
			t.Fatal("a key that nobody has published is taken")
		}
	}
	site.publish(t, after)
	testkit.Eventually(t, "the new key is taken", func() bool {
		return letsIn(t, p, after.token(t))
	})
	if letsIn(t, p, before.token(t)) ||
		letsIn(t, p, forger.token(t)) || letsIn(t, p, stranger.token(t)) {
		t.Error("a key that is not published any more is taken")
	}
	took := time.Since(began)
	if n, most := int(site.fetched.Load()), 1+int(took/askedAgainAfter); n < 2 || n > most {
		t.Errorf("the site was asked %d times in %v, want 2 to %d", n, took, most)
	}
}
