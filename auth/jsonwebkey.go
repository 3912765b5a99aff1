package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"net/url"
)

// maxRSABits is the largest size of an RSA key. The work of a check grows with the size, and a
// client causes a check with any made-up signature.
const maxRSABits = 4096

// errKeyType is the error for a key that is malformed, or that none of our algorithms uses.
var errKeyType = errors.New("not a key of a type that is used here")

// curves are the curves of RFC 7518 §6.2.1.1. ES256 uses P-256 only. Keys of the remaining curves
// are decoded so that the error says that the curve is wrong.
var curves = map[string]elliptic.Curve{
	"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521(),
}

// jsonWebKey is a public key in the form of RFC 7517 §4, with the members of RSA and EC keys
// (RFC 7518 §6) and of Ed25519 keys (RFC 8037 §2). A member that is missing or null is empty.
// The decoder is ours because the JWT library has none.
type jsonWebKey struct {
	keyType, curve, id, use, algorithm string
	n, e, x, y                         base64URL
	certificates                       []string // in DER and base64; the first has this key
	certificateURL                     string
	sha1, sha256                       base64URL // thumbprints of the first certificate
}

// decodeKey decodes the members of a key by their exact names: decoding into a struct would take
// `KTY` for `kty`. It ignores members that jsonWebKey does not have.
func decodeKey(members map[string]json.RawMessage) (*jsonWebKey, error) {
	k := &jsonWebKey{}
	for name, to := range map[string]any{
		"kty": &k.keyType, "crv": &k.curve, "kid": &k.id, "use": &k.use, "alg": &k.algorithm,
		"n": &k.n, "e": &k.e, "x": &k.x, "y": &k.y,
		"x5c": &k.certificates, "x5u": &k.certificateURL, "x5t": &k.sha1, "x5t#S256": &k.sha256,
	} {
		if raw, ok := members[name]; ok && json.Unmarshal(raw, to) != nil {
			return nil, errKeyType
		}
	}
	return k, nil
}

// publicKey returns an *rsa.PublicKey, an *ecdsa.PublicKey or an ed25519.PublicKey. Errors:
// errKeyType.
func (k *jsonWebKey) publicKey() (crypto.PublicKey, error) {
	var key interface{ Equal(crypto.PublicKey) bool }
	var err error
	switch {
	case k.keyType == "RSA":
		key, err = k.rsaKey()
	case k.keyType == "EC":
		key, err = k.ecdsaKey()
	case k.keyType == "OKP" && k.curve == "Ed25519":
		key, err = k.ed25519Key()
	default:
		err = errKeyType
	}
	if err != nil {
		return nil, err
	}
	return key, k.checkCertificates(key.Equal)
}

func (k *jsonWebKey) rsaKey() (*rsa.PublicKey, error) {
	n, e := new(big.Int).SetBytes(k.n), new(big.Int).SetBytes(k.e)
	if k.n == nil || n.BitLen() > maxRSABits {
		return nil, errKeyType
	}
	if !e.IsInt64() || e.Int64() < 2 || e.Int64() > math.MaxInt {
		return nil, errKeyType
	}
	return &rsa.PublicKey{N: n, E: int(e.Int64())}, nil
}

func (k *jsonWebKey) ecdsaKey() (*ecdsa.PublicKey, error) {
	curve, ok := curves[k.curve]
	if !ok {
		return nil, errKeyType
	}
	// Each coordinate has the full size of the field (RFC 7518 §6.2.1.2).
	if size := (curve.Params().BitSize + 7) / 8; len(k.x) != size || len(k.y) != size {
		return nil, errKeyType
	}
	const uncompressed = 4 // SEC 1 §2.3.3
	point := append(append([]byte{uncompressed}, k.x...), k.y...)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
	if err != nil {
		return nil, errKeyType
	}
	return key, nil
}

func (k *jsonWebKey) ed25519Key() (ed25519.PublicKey, error) {
	if len(k.x) != ed25519.PublicKeySize || isWeakEd25519(ed25519.PublicKey(k.x)) {
		return nil, errKeyType
	}
	return ed25519.PublicKey(k.x), nil
}

// checkCertificates returns errKeyType if the certificates beside a key contradict it (RFC 7517
// §4.6 to §4.9). Certificates give a key nothing: their issuers and dates are not checked.
func (k *jsonWebKey) checkCertificates(isKey func(crypto.PublicKey) bool) error {
	var first []byte // empty: there is no certificate
	for i, text := range k.certificates {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return errKeyType
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil || i == 0 && !isKey(certificate.PublicKey) {
			return errKeyType
		}
		if i == 0 {
			first = certificate.Raw
		}
	}
	if _, err := url.Parse(k.certificateURL); err != nil {
		return errKeyType
	}
	sum1, sum256 := sha1.Sum(first), sha256.Sum256(first)
	if !isThumbprint(k.sha1, sum1[:], first) || !isThumbprint(k.sha256, sum256[:], first) {
		return errKeyType
	}
	return nil
}

// isThumbprint reports whether print, unless it is empty, is as long as sum, and equal to it if
// there is a certificate. Some issuers encode the hexadecimal digits in place of the bytes.
func isThumbprint(print base64URL, sum, certificate []byte) bool {
	if len(print) == 2*len(sum) {
		decoded, err := hex.DecodeString(string(print))
		if err != nil {
			return false
		}
		print = decoded
	}
	return len(print) == 0 || len(print) == len(sum) &&
		(len(certificate) == 0 || bytes.Equal(print, sum))
}

// repeatsMember reports whether a JSON object has two members of the same name. JSON decoders
// differ in which of the two they keep (RFC 7517 §4).
func repeatsMember(object json.RawMessage) bool {
	names := map[json.Token]bool{}
	d := json.NewDecoder(bytes.NewReader(object))
	_, err := d.Token() // the brace
	for err == nil && d.More() {
		var name json.Token
		var value json.RawMessage
		if name, err = d.Token(); names[name] {
			return true
		}
		names[name] = true
		if err == nil {
			err = d.Decode(&value)
		}
	}
	return err != nil
}

// base64URL holds decoded bytes; in JSON they are base64url without padding (RFC 7515 §2). Nil: the
// member is missing or null.
type base64URL []byte

// UnmarshalJSON decodes a JSON string.
func (b *base64URL) UnmarshalJSON(raw []byte) error {
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil || text == nil {
		return err
	}
	decoded, err := base64.RawURLEncoding.DecodeString(*text)
	*b = decoded
	return err
}

// weakEd25519 has the y coordinates, in hexadecimal, of all points whose order is 8 or less, also
// in the encodings that exceed the field (0 and 1 as p and p+1). Anyone can make signatures that
// such a key verifies, without a private key.
var weakEd25519 = map[string]bool{
	"0000000000000000000000000000000000000000000000000000000000000000": true,
	"0100000000000000000000000000000000000000000000000000000000000000": true,
	"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05": true,
	"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a": true,
	"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": true,
	"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": true,
	"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f": true,
}

// isWeakEd25519 reports whether a key is a point of small order. The key must have its full length.
func isWeakEd25519(key ed25519.PublicKey) bool {
	y := bytes.Clone(key)
	y[len(y)-1] &^= 0x80 // the sign of x
	return weakEd25519[hex.EncodeToString(y)]
}
