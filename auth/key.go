package auth

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

// MinKeyBytes is the least length of a token key: HS256 asks for a key as long as its hash
// (RFC 7518 §3.2).
const MinKeyBytes = 32

// TokenKey signs client tokens (JWT, RFC 7519) with HS256. Tokens verifies what it signed.
type TokenKey struct {
	secret []byte
}

// LoadTokenKey reads a key from a file. One newline at the end is not part of it.
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

// NewTokenKey returns the key made of these bytes, at least MinKeyBytes of them. It keeps the slice.
func NewTokenKey(secret []byte) (*TokenKey, error) {
	if len(secret) < MinKeyBytes {
		return nil, fmt.Errorf("token key: %d bytes, want at least %d", len(secret), MinKeyBytes)
	}
	return &TokenKey{secret}, nil
}

// Format hides the key from every verb of package fmt.
func (k *TokenKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("auth.TokenKey(redacted)")) }

// AccessKey returns the key as text, for the connection string of a Web PubSub server SDK. That is the one place in
// which a key is shown. Not every key is a text that a connection string can carry.
func (k *TokenKey) AccessKey() (string, error) {
	if !utf8.Valid(k.secret) || bytes.ContainsAny(k.secret, ";\r\n") {
		return "", errors.New("token key: not UTF-8, or it has a semicolon or a newline: a connection string can't carry it")
	}
	return string(k.secret), nil
}

// Sign returns a token for one audience (see Audience). Expires is required; a part of a second in it
// is cut off. Errors: ErrClaimInvalid.
func (k *TokenKey) Sign(audience string, c Claims) (string, error) {
	if c.Expires.IsZero() {
		return "", fmt.Errorf("%w: %s: missing", ErrClaimInvalid, claimExpires)
	}
	if err := c.check(); err != nil {
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
