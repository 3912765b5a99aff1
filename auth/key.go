package auth

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// MinKeyBytes is the least length of a token key, in bytes. HS256 requires a key as long as its
// hash (RFC 7518 §3.2).
const MinKeyBytes = 32

// TokenKey signs client tokens (JWT, RFC 7519) with HS256. Tokens verifies them.
type TokenKey struct {
	secret []byte // fixed at NewTokenKey; at least MinKeyBytes
}

// LoadTokenKey reads a key from a file. A newline at the end of the file is not part of the key.
func LoadTokenKey(path string) (*TokenKey, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("token key: %w", err)
	}
	if line, ok := bytes.CutSuffix(b, []byte("\n")); ok {
		b = bytes.TrimSuffix(line, []byte("\r"))
	}
	k, err := NewTokenKey(b)
	if err != nil {
		return nil, fmt.Errorf("%w (file %s)", err, path)
	}
	return k, nil
}

// NewTokenKey returns a key of the bytes of secret, at least MinKeyBytes. The key keeps the slice.
func NewTokenKey(secret []byte) (*TokenKey, error) {
	if len(secret) < MinKeyBytes {
		return nil, fmt.Errorf("token key: %d bytes, want at least %d", len(secret), MinKeyBytes)
	}
	return &TokenKey{secret}, nil
}

// Format hides the key from every verb of package fmt.
func (k *TokenKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("auth.TokenKey(redacted)")) }

// AccessKey returns the key as text, for the connection string of a Web PubSub server SDK. It
// returns an error if a connection string can't carry the key. No other function shows a key.
func (k *TokenKey) AccessKey() (string, error) {
	if !utf8.Valid(k.secret) || bytes.ContainsAny(k.secret, ";\r\n") {
		return "", errors.New("token key: a connection string can't carry it, " +
			"because it is not UTF-8 or has a semicolon or a newline")
	}
	return string(k.secret), nil
}

// Sign returns a token for an audience (see Audience). c.Expires is required; its fraction of a
// second is cut off. Errors: ErrClaimInvalid.
func (k *TokenKey) Sign(audience string, c Claims) (string, error) {
	if c.Expires.IsZero() {
		return "", fmt.Errorf("%w: %s: missing", ErrClaimInvalid, claimExpires)
	}
	if err := c.checkValues(); err != nil {
		return "", err
	}
	claims := jwt.MapClaims{claimAudience: audience, claimExpires: c.Expires.Unix()}
	if c.User != "" {
		claims[claimUser] = c.User
	}
	if len(c.Groups) > 0 {
		claims[claimGroup] = c.Groups
	}
	if c.Roles != nil {
		claims[claimRole] = c.Roles.list
	}
	if len(c.Labels) > 0 {
		claims[claimLabels] = c.Labels
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(k.secret)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}
