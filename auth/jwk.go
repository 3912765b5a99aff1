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
	// MinRSABits is the least size of an RSA key (RFC 7518 §3.3).
	MinRSABits = 2048
	// MaxKeys is the most keys in a set. A token that names none is tried with each of its algorithm.
	MaxKeys = 32
)

// publicAlgorithms are those of public keys (RFC 7518 §3.1, RFC 8037 §3.1).
var publicAlgorithms = []string{
	jwt.SigningMethodRS256.Alg(), jwt.SigningMethodES256.Alg(), jwt.SigningMethodEdDSA.Alg(),
}

// publicKey is a key with the one algorithm for which it is used.
type publicKey struct {
	id        string // empty: it has none
	algorithm string
	key       crypto.PublicKey
}

// parseKeys returns the keys of a JWK Set (RFC 7517 §5) that can be used, and why others can't. A set in which none can be
// used is an error.
func parseKeys(b []byte) (usable []publicKey, others []error, err error) {
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
			others = append(others, fmt.Errorf("keys[%d]: %w", i, err))
			continue
		}
		usable = append(usable, key)
	}
	if len(usable) == 0 {
		return nil, nil, errors.Join(append([]error{errors.New("no key that can be used")}, others...)...)
	}
	return usable, others, nil
}

// parseKey returns a key that checks signatures with an algorithm of ours. Errors show nothing of the key.
func parseKey(raw json.RawMessage) (publicKey, error) {
	// Each member is taken by its exact name, here and in decodeKey.
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil {
		return publicKey{}, errors.New("not a JSON object")
	}
	for _, secret := range []string{"d", "k", "priv"} {
		if _, ok := members[secret]; ok {
			return publicKey{}, errors.New("it is a secret or private key, which has no place in a set of public ones")
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

// algorithmOf binds a key to its algorithm.
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
