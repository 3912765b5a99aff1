package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/connhub/connhub/internal/testkit"
)

// issuer has the keys of a foreign issuer: a key of each algorithm, and keys that must be refused.
type issuer struct {
	rsa     *rsa.PrivateKey
	ec      *ecdsa.PrivateKey
	ed      ed25519.PrivateKey
	weakRSA *rsa.PrivateKey
	p384    *ecdsa.PrivateKey
}

// newIssuer generates the keys once, because generating an RSA key is slow.
var newIssuer = sync.OnceValue(func() *issuer {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	i := &issuer{}
	var err error
	i.rsa, err = rsa.GenerateKey(rand.Reader, MinRSABits)
	must(err)
	i.weakRSA, err = rsa.GenerateKey(rand.Reader, 1024)
	must(err)
	i.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	i.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	must(err)
	_, i.ed, err = ed25519.GenerateKey(rand.Reader)
	must(err)
	return i
})

// keySetOf returns a KeySet of these keys that is never refreshed.
func keySetOf(t testing.TB, keys ...string) *KeySet {
	t.Helper()
	usable, _, err := parseKeys([]byte(testkit.JWKSet(keys...)))
	if err != nil {
		t.Fatal(err)
	}
	s := &KeySet{began: time.Now().Add(time.Hour)}
	s.keys.Store(&usable)
	return s
}

// signAs signs valid claims with any key, method and header.
func signAs(t testing.TB, method jwt.SigningMethod, key any, header map[string]any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims{
		"aud": testAudience, "exp": time.Now().Add(time.Hour).Unix(), "sub": "ann",
	})
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestPublicKeysVerifyTokensOfTheirIssuer(t *testing.T) {
	i := newIssuer()
	all := keySetOf(t,
		testkit.JWK(t, i.rsa.Public(), "r", `"use":"sig"`, `"alg":"RS256"`),
		testkit.JWK(t, i.ec.Public(), "e", `"key_ops":["verify"]`),
		testkit.JWK(t, i.ed.Public(), ""),
	)
	tokens := NewTokens(all, newTestKey(t, testSecret))
	for _, c := range []struct {
		name   string
		method jwt.SigningMethod
		key    any
		header map[string]any
	}{
		{"RS256", jwt.SigningMethodRS256, i.rsa, map[string]any{"kid": "r"}},
		{"RS256 without a key id", jwt.SigningMethodRS256, i.rsa, nil},
		{"ES256", jwt.SigningMethodES256, i.ec, map[string]any{"kid": "e"}},
		{"EdDSA, key without an id", jwt.SigningMethodEdDSA, i.ed, map[string]any{"kid": "any"}},
		{"a key id that is a number", jwt.SigningMethodES256, i.ec, map[string]any{"kid": 5}},
		{"HS256 beside them", jwt.SigningMethodHS256, []byte(testSecret), nil},
		{"headers that name other keys", jwt.SigningMethodES256, i.ec, map[string]any{
			"jku": "https://evil.example/jwks", "x5u": "https://evil.example/x5u",
			"jwk": json.RawMessage(testkit.JWK(t, i.p384.Public(), "")),
		}},
	} {
		claims, err := tokens.Verify(t.Context(), signAs(t, c.method, c.key, c.header),
			testAudience)
		if err != nil || claims.User != "ann" {
			t.Errorf("%s: %+v, %v", c.name, claims, err)
		}
	}
}

func TestAnAlgorithmIsBoundToItsKey(t *testing.T) {
	i := newIssuer()
	der, err := x509.MarshalPKIXPublicKey(i.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set := keySetOf(t, testkit.JWK(t, i.rsa.Public(), "r"), testkit.JWK(t, i.ec.Public(), "e"),
		testkit.JWK(t, i.ed.Public(), "o"))
	kid := func(id string) map[string]any { return map[string]any{"kid": id} }
	edKey, _ := i.ed.Public().(ed25519.PublicKey)
	ownKey := map[string]any{"jwk": json.RawMessage(testkit.JWK(t, other.Public(), "e"))}
	for _, c := range []struct {
		name   string
		method jwt.SigningMethod
		key    any
		header map[string]any
	}{
		{"HS256 with the public key as PEM", jwt.SigningMethodHS256, public, kid("r")},
		{"HS256 with the public key as DER", jwt.SigningMethodHS256, der, kid("r")},
		{"HS256 with the modulus", jwt.SigningMethodHS256, i.rsa.N.Bytes(), kid("r")},
		{"HS256 with the Ed25519 key", jwt.SigningMethodHS256, []byte(edKey), kid("o")},
		{"HS256 with nothing", jwt.SigningMethodHS256, []byte{}, nil},
		{"none", jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, kid("r")},
		{"PS256", jwt.SigningMethodPS256, i.rsa, kid("r")},
		{"RS512", jwt.SigningMethodRS512, i.rsa, kid("r")},
		{"ES384", jwt.SigningMethodES384, i.p384, kid("e")},
		{"the key id of another key", jwt.SigningMethodES256, i.ec, kid("r")},
		{"an unknown key id", jwt.SigningMethodES256, i.ec, kid("x")},
		{"another key", jwt.SigningMethodES256, other, kid("e")},
		{"a key in the token's header", jwt.SigningMethodES256, other, ownKey},
	} {
		for _, tokens := range []*Tokens{
			NewTokens(set), NewTokens(set, newTestKey(t, testSecret)),
		} {
			_, err := tokens.Verify(t.Context(), signAs(t, c.method, c.key, c.header), testAudience)
			if !errors.Is(err, ErrTokenInvalid) {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
	_, err = verifier(t, testSecret).Verify(t.Context(),
		signAs(t, jwt.SigningMethodRS256, i.rsa, nil), testAudience)
	if !errors.Is(err, ErrTokenInvalid) {
		t.Errorf("RS256 without public keys: %v", err)
	}
}

func TestKeysThatMustNotBeUsedAreNot(t *testing.T) {
	i := newIssuer()
	jwk := func(key any, members ...string) string { return testkit.JWK(t, key, "", members...) }
	good := testkit.JWK(t, i.ec.Public(), "good")
	zeros := strings.Repeat("A", 43) // 32 bytes in base64url
	for name, c := range map[string]struct{ key, why string }{
		"encryption":       {jwk(i.rsa.Public(), `"use":"enc"`), "its use is not sig"},
		"other algorithm":  {jwk(i.rsa.Public(), `"alg":"RS512"`), "its alg is not RS256"},
		"RSA for HS256":    {jwk(i.rsa.Public(), `"alg":"HS256"`), "its alg is not RS256"},
		"EC for EdDSA":     {jwk(i.ec.Public(), `"alg":"EdDSA"`), "its alg is not ES256"},
		"operations":       {jwk(i.ec.Public(), `"key_ops":["sign"]`), "key_ops has no verify"},
		"operations wrong": {jwk(i.ec.Public(), `"key_ops":"verify"`), "key_ops has no verify"},
		"weak RSA":         {jwk(i.weakRSA.Public()), "RSA key of 1024 bits, want at least 2048"},
		"P-384":            {jwk(i.p384.Public()), "not on the curve P-256"},
		"private RSA":      {jwk(i.rsa), "secret or private"},
		"private EC":       {jwk(i.ec), "secret or private"},
		"symmetric":        {jwk([]byte(testSecret)), "secret or private"},
		"a point off the curve": {
			`{"kty":"EC","crv":"P-256","x":"` + zeros + `","y":"` + zeros + `"}`,
			"not a key of a type",
		},
		"unknown type": {`{"kty":"XYZ"}`, "not a key of a type"},
		"X25519":       {`{"kty":"OKP","crv":"X25519","x":"` + zeros + `"}`, "not a key of a type"},
		"no type":      {`{}`, "not a key of a type"},
		"a number":     {`5`, "not a JSON object"},
		"null":         {`null`, "not a key of a type"},
	} {
		keys, unusable, err := parseKeys([]byte(testkit.JWKSet(c.key, good)))
		if err != nil || len(keys) != 1 || keys[0].id != "good" {
			t.Errorf("%s: the good key beside it: %v, %v", name, keys, err)
		}
		if len(unusable) != 1 || !strings.HasPrefix(unusable[0].Error(), "keys[0]: ") ||
			!strings.Contains(unusable[0].Error(), c.why) {
			t.Errorf("%s: %v, want %s", name, unusable, c.why)
		}
		_, _, err = parseKeys([]byte(testkit.JWKSet(c.key)))
		if err == nil || !strings.Contains(err.Error(), "no usable key") {
			t.Errorf("%s alone: %v", name, err)
		}
	}
	for name, text := range map[string]string{
		"empty": "", "not JSON": "<html>", "a list": "[]", "no keys": "{}", "null": "null",
		"keys not a list": `{"keys":{}}`,
		"too many": testkit.JWKSet(strings.Split(strings.Repeat(good+"\n", MaxKeys)+good,
			"\n")...),
	} {
		if keys, _, err := parseKeys([]byte(text)); err == nil {
			t.Errorf("%s: %v", name, keys)
		}
	}
}

func FuzzParseKeys(f *testing.F) {
	i := newIssuer()
	for _, key := range []any{
		i.rsa.Public(), i.ec.Public(), i.ed.Public(), i.rsa, i.weakRSA.Public(), []byte(testSecret),
	} {
		f.Add([]byte(testkit.JWKSet(testkit.JWK(f, key, "a", `"use":"sig"`))))
	}
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB","x5c":["AAAA"]},null]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, _, err := parseKeys(text)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			if algorithm, err := algorithmOf(k.key); err != nil || algorithm != k.algorithm {
				t.Fatalf("%T for %s: %v", k.key, k.algorithm, err)
			}
			// No key may make the check of a signature panic.
			method := jwt.GetSigningMethod(k.algorithm)
			if method.Verify("x", make([]byte, 64), k.key) == nil {
				t.Fatalf("%s: zeros are a signature", k.algorithm)
			}
		}
	})
}

// Verify accepts only tokens whose header and payload were signed.
func FuzzVerifyWithPublicKeys(f *testing.F) {
	// All processes of the fuzzer need the same keys and claims.
	ed := ed25519.NewKeyFromSeed([]byte(testSecret))
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), []byte(testSecret))
	if err != nil {
		f.Fatal(err)
	}
	set := keySetOf(f, testkit.JWK(f, newIssuer().rsa.Public(), "r"),
		testkit.JWK(f, ec.Public(), "e"), testkit.JWK(f, ed.Public(), "o"))
	tokens := NewTokens(set, newTestKey(f, testSecret))
	signed := map[string]bool{} // header and payload
	for method, key := range map[jwt.SigningMethod]crypto.PrivateKey{
		jwt.SigningMethodES256: ec, jwt.SigningMethodEdDSA: ed,
		jwt.SigningMethodHS256: []byte(testSecret),
	} {
		token, err := jwt.NewWithClaims(method,
			jwt.MapClaims{"aud": testAudience, "exp": 99999999999}).SignedString(key)
		if err != nil {
			f.Fatal(err)
		}
		signed[token[:strings.LastIndexByte(token, '.')]] = true
		f.Add(token)
		f.Add(strings.Replace(token, ".", "..", 1))
	}
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := tokens.Verify(t.Context(), token, testAudience)
		if err != nil {
			if !errors.Is(err, ErrTokenInvalid) && !errors.Is(err, ErrTokenExpired) &&
				!errors.Is(err, ErrClaimInvalid) {
				t.Fatalf("not one of our errors: %v", err)
			}
			return
		}
		if head := token[:strings.LastIndexByte(token, '.')]; !signed[head] {
			t.Fatalf("taken: %q, %+v", token, claims)
		}
	})
}
