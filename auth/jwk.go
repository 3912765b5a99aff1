package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MinRSABits is the least size of an RSA key, in bits (RFC 7518 §3.3).
	MinRSABits = 2048
	// MaxKeys is the limit of keys in a set. It bounds the work of a token without a `kid`: the
	// token is checked with each key of its algorithm.
	MaxKeys = 32
)

// publicAlgorithms are the algorithms that sign with a private key and are verified with a public
// key (RFC 7518 §3.1, RFC 8037 §3.1).
var publicAlgorithms = []string{
	jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg(),
}

// publicKey is a key with the only algorithm that it is used for.
type publicKey struct {
	id        string // the member `kid`; empty: the key has no id
	algorithm string
	key       crypto.PublicKey
}

// parseKeys returns the usable keys of a JWK Set (RFC 7517 §5), and an error for each key that is
// not usable. A set without a usable key is an error.
func parseKeys(b []byte) (usable []publicKey, unusable []error, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(b, &set); err != nil {
		return nil, nil, errors.New("not a JWK Set (RFC 7517 §5)")
	}
	if len(set.Keys) > MaxKeys {
		return nil, nil, fmt.Errorf("%d keys, want at most %d", len(set.Keys), MaxKeys)
	}
	for i, raw := range set.Keys {
		key, err := parseKey(raw)
		if err != nil {
			unusable = append(unusable, fmt.Errorf("keys[%d]: %w", i, err))
			continue
		}
		usable = append(usable, key)
	}
	if len(usable) == 0 {
		problems := append([]error{errors.New("no usable key")}, unusable...)
		return nil, nil, errors.Join(problems...)
	}
	return usable, unusable, nil
}

// parseKey returns a key for one of publicAlgorithms. Errors show nothing of the key.
func parseKey(raw json.RawMessage) (publicKey, error) {
	// A map keeps the exact names of the members, as in decodeKey.
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return publicKey{}, errors.New("not a JSON object")
	}
	for _, secret := range []string{"d", "k", "priv"} {
		if _, ok := members[secret]; ok {
			return publicKey{}, errors.New("a secret or private key in a set of public keys")
		}
	}
	if raw, ok := members["key_ops"]; ok {
		var operations []string
		if json.Unmarshal(raw, &operations) != nil || !slices.Contains(operations, "verify") {
			return publicKey{}, errors.New("key_ops has no verify")
		}
	}
	jwk, err := decodeKey(members)
	if err != nil || repeatsMember(raw) {
		return publicKey{}, errKeyType
	}
	key, err := jwk.publicKey()
	if err != nil {
		return publicKey{}, err
	}
	algorithm, err := algorithmOf(key)
	switch {
	case err != nil:
		return publicKey{}, err
	case jwk.use != "" && jwk.use != "sig":
		return publicKey{}, errors.New("its use is not sig")
	case jwk.algorithm != "" && jwk.algorithm != algorithm:
		return publicKey{}, fmt.Errorf("its alg is not %s", algorithm)
	}
	return publicKey{id: jwk.id, algorithm: algorithm, key: key}, nil
}

// algorithmOf returns the only algorithm that a key is used for.
func algorithmOf(key any) (string, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < MinRSABits {
			return "", fmt.Errorf("RSA key of %d bits, want at least %d", bits, MinRSABits)
		}
		return jwt.SigningMethodRS256.Alg(), nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return "", errors.New("not on the curve P-256")
		}
		return jwt.SigningMethodES256.Alg(), nil
	case ed25519.PublicKey:
		return jwt.SigningMethodEdDSA.Alg(), nil
	default:
		return "", errKeyType
	}
}
