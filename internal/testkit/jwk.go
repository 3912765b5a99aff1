package testkit

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
)

// JWK returns a key in JSON (RFC 7517 §4). The key is an RSA, an ECDSA or an Ed25519 public key, an
// RSA or an ECDSA private key, or a secret as bytes. An empty id is left out. More are further
// members as JSON, like `"use":"sig"`.
func JWK(t testing.TB, key any, id string, more ...string) string {
	t.Helper()
	members := map[string]string{}
	if id != "" {
		members["kid"] = id
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		addRSA(members, k)
	case *rsa.PrivateKey:
		addRSA(members, &k.PublicKey)
		members["d"] = base64URL(k.D.Bytes())
	case *ecdsa.PublicKey:
		addECDSA(t, members, k)
	case *ecdsa.PrivateKey:
		addECDSA(t, members, &k.PublicKey)
		d, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		members["d"] = base64URL(d)
	case ed25519.PublicKey: // RFC 8037 §2
		members["kty"], members["crv"], members["x"] = "OKP", "Ed25519", base64URL(k)
	case []byte: // RFC 7518 §6.4
		members["kty"], members["k"] = "oct", base64URL(k)
	default:
		t.Fatalf("no JWK for a %T", key)
	}
	text, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	all := append([]string{strings.TrimSuffix(string(text), "}")}, more...)
	return strings.Join(all, ",") + "}"
}

// JWKSet returns a JWK Set (RFC 7517 §5) of keys in JSON.
func JWKSet(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// addRSA adds the members of RFC 7518 §6.3.1.
func addRSA(members map[string]string, key *rsa.PublicKey) {
	members["kty"], members["n"] = "RSA", base64URL(key.N.Bytes())
	members["e"] = base64URL(big.NewInt(int64(key.E)).Bytes())
}

// addECDSA adds the members of RFC 7518 §6.2.1.
func addECDSA(t testing.TB, members map[string]string, key *ecdsa.PublicKey) {
	t.Helper()
	point, err := key.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	size := len(point) / 2
	members["kty"], members["crv"] = "EC", key.Params().Name
	members["x"], members["y"] = base64URL(point[1:1+size]), base64URL(point[1+size:])
}

func base64URL(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
