//go:build bench && linux

package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/connhub/connhub/auth"
)

const (
	// tokenURL is the hub's public URL, to which tokens are bound.
	tokenURL = "https://hub.example.com"
	// tokenPath is the request of a client with a token. The token names its user and groups.
	tokenPath = "/client/hubs/default?access_token={token}"
	// tokenLife is the life of a token: longer than any test.
	tokenLife = 2 * time.Hour
	// rsaBits is the size of an RSA key at most identity providers.
	rsaBits = 2048
)

// The algorithms of tokens (RFC 7518 §3.1). An opening names its tokens by their algorithm.
const (
	hs256 = "HS256"
	es256 = "ES256"
	rs256 = "RS256"
)

// issuer signs tokens for clients: as a backend does (HS256), and as identity providers do.
type issuer struct {
	keys map[string]any // by algorithm
}

func newIssuer() (*issuer, error) {
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	modulus, err := rsa.GenerateKey(rand.Reader, rsaBits)
	return &issuer{keys: map[string]any{
		hs256: []byte("a-key-for-a-benchmark-and-nothing-else"), es256: curve, rs256: modulus,
	}}, err
}

// sign returns tokens for that many clients. Each is a user-{i} of its own, in the group shared.
func (s *issuer) sign(algorithm string, count int) ([]string, error) {
	audience, err := url.Parse(tokenURL)
	if err != nil {
		return nil, err
	}
	tokens := make([]string, count)
	for i := range tokens {
		token := jwt.NewWithClaims(jwt.GetSigningMethod(algorithm), jwt.MapClaims{
			"aud": auth.Audience(audience, "default"), "exp": time.Now().Add(tokenLife).Unix(),
			"sub": fmt.Sprintf("user-%011d", i), "webpubsub.group": []string{shared},
		})
		if algorithm != hs256 {
			token.Header["kid"] = algorithm
		}
		if tokens[i], err = token.SignedString(s.keys[algorithm]); err != nil {
			return nil, err
		}
	}
	return tokens, nil
}

// serve runs the binary as operators do, with further flags: clients need a token of this issuer.
func (s *issuer) serve(flags ...string) (*blackBox, error) {
	set, err := s.keySet()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "connhub-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) // the binary reads the set again only after minutes
	private, public := filepath.Join(dir, "token.key"), filepath.Join(dir, "jwks.json")
	for path, text := range map[string][]byte{private: s.keys[hs256].([]byte), public: set} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, err
		}
	}
	return startServe(append([]string{
		alone, "--public-url", tokenURL, "--token-key-file", private, "--token-jwks", public,
	}, flags...)...)
}

// keySet returns the public keys as a JWK Set (RFC 7517 §5).
func (s *issuer) keySet() ([]byte, error) {
	curve, modulus := s.keys[es256].(*ecdsa.PrivateKey), s.keys[rs256].(*rsa.PrivateKey)
	point, err := curve.PublicKey.Bytes() // 4, x and y (SEC 1 §2.3.3)
	if err != nil {
		return nil, err
	}
	encode, half := base64.RawURLEncoding.EncodeToString, (len(point)-1)/2
	return json.Marshal(map[string]any{"keys": []map[string]string{
		{
			"kid": es256, "kty": "EC", "crv": "P-256",
			"x": encode(point[1 : 1+half]), "y": encode(point[1+half:]),
		},
		{
			"kid": rs256, "kty": "RSA", "n": encode(modulus.N.Bytes()),
			"e": encode(big.NewInt(int64(modulus.E)).Bytes()),
		},
	}})
}
