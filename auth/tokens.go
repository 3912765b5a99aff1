package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MinKeyBytes is the least length of a token key: HS256 asks for a key as long as its hash
	// (RFC 7518 §3.2).
	MinKeyBytes = 32
	// MaxNameBytes is the most bytes of a user or group name; the same limit as in the API.
	MaxNameBytes = 1024
	// MaxGroups is the most groups in one token; the same limit as in the API.
	MaxGroups = 128
	// MaxRoles is the most roles in one token: two for each group, to join it and to send to it.
	MaxRoles = 2 * MaxGroups
	// ClockLeeway is how far the clocks of a signer and of a hub may be apart.
	ClockLeeway = 60 * time.Second
)

// claimRole is the claim in which roles are, as in Web PubSub.
const claimRole = "role"

// Errors of Verify and Sign.
var (
	// ErrTokenInvalid: the token is malformed, not signed with this key, for another audience, not
	// valid yet, or without an expiry. The text says which.
	ErrTokenInvalid = errors.New("token is invalid")
	// ErrTokenExpired: the token was good, but its time is over.
	ErrTokenExpired = errors.New("token is expired")
	// ErrClaimInvalid: the token is good, but the name of a user or group in it breaks a rule. The
	// text says which claim.
	ErrClaimInvalid = errors.New("claim is invalid")
)

// Claims is what a client token says.
type Claims struct {
	User    string    // claim `sub`; empty: anonymous
	Groups  []string  // claim `webpubsub.group`: the groups that the connection starts in
	Expires time.Time // claim `exp`, in whole seconds
}

// TokenKey signs and verifies client tokens (JWT, RFC 7519) with HS256 and nothing else: the
// algorithm belongs to the key, and what a token's header asks for is never believed.
type TokenKey struct {
	secret []byte
	parser *jwt.Parser // without the audience, which differs from call to call
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
	return &TokenKey{
		secret: secret,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}),
			jwt.WithExpirationRequired(),
			jwt.WithLeeway(ClockLeeway),
			jwt.WithStrictDecoding(),
		),
	}, nil
}

// Format hides the key from every verb of package fmt.
func (k *TokenKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("auth.TokenKey(redacted)")) }

// Sign returns a token for one audience (see Audience). Expires is required; a part of a second in it
// is cut off. Errors: ErrClaimInvalid.
func (k *TokenKey) Sign(audience string, c Claims) (string, error) {
	if c.Expires.IsZero() {
		return "", fmt.Errorf("%w: no expiry", ErrClaimInvalid)
	}
	if err := c.check(); err != nil {
		return "", err
	}
	claims := jwt.MapClaims{"aud": audience, "exp": c.Expires.Unix()}
	if c.User != "" {
		claims["sub"] = c.User
	}
	if len(c.Groups) > 0 {
		claims["webpubsub.group"] = c.Groups
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(k.secret)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return token, nil
}

// Verify checks a token's signature, audience and times, with a leeway of ClockLeeway, and returns what
// it says. `webpubsub.group` may be one name or a list. Errors: ErrTokenInvalid, ErrTokenExpired,
// ErrClaimInvalid.
func (k *TokenKey) Verify(token, audience string) (Claims, error) {
	var raw tokenClaims
	parsed, err := k.parser.ParseWithClaims(token, &raw, func(*jwt.Token) (any, error) { return k.secret, nil })
	if err != nil {
		return Claims{}, explain(err)
	}
	// RFC 7515 §4.1.11: who does not understand a critical extension must refuse the token. We
	// understand none.
	if _, critical := parsed.Header["crit"]; critical {
		return Claims{}, fmt.Errorf("%w: critical header extension", ErrTokenInvalid)
	}
	if !raw.hasAudience(audience) {
		return Claims{}, fmt.Errorf("%w: wrong audience", ErrTokenInvalid)
	}
	groups, err := raw.groups()
	if err != nil {
		return Claims{}, err
	}
	c := Claims{User: raw.Subject, Groups: groups, Expires: raw.ExpiresAt.Time}
	if err := c.check(); err != nil {
		return Claims{}, err
	}
	return c, nil
}

// Audience returns the audience of the tokens for a namespace: the URL at which its clients connect, with
// http for ws and https for wss, and with a path prefix of publicURL kept.
func Audience(publicURL *url.URL, namespace string) string {
	scheme := publicURL.Scheme
	switch scheme {
	case "ws":
		scheme = "http"
	case "wss":
		scheme = "https"
	}
	u := url.URL{Scheme: scheme, Host: publicURL.Host}
	return u.String() + strings.TrimRight(publicURL.EscapedPath(), "/") + "/client/hubs/" + namespace
}

// tokenClaims is the payload of a token as it stands.
type tokenClaims struct {
	jwt.RegisteredClaims

	// Group is decoded after the signature was checked, so that a wrong type is a wrong claim of a
	// good token and not a malformed one.
	Group json.RawMessage `json:"webpubsub.group"`
}

func (c *tokenClaims) hasAudience(want string) bool {
	return slices.Contains(c.Audience, want)
}

func (c *tokenClaims) groups() ([]string, error) {
	if len(c.Group) == 0 {
		return nil, nil
	}
	var one string
	if c.Group[0] == '"' && json.Unmarshal(c.Group, &one) == nil {
		return []string{one}, nil
	}
	var list []string
	if json.Unmarshal(c.Group, &list) != nil {
		return nil, fmt.Errorf("%w: webpubsub.group is not a string or a list of strings", ErrClaimInvalid)
	}
	return list, nil
}

// check holds the rules for names. It never shows a name: one with control characters has no place
// in a log line.
func (c *Claims) check() error {
	if c.User != "" {
		if problem := checkName(c.User); problem != "" {
			return fmt.Errorf("%w: sub: %s", ErrClaimInvalid, problem)
		}
	}
	if len(c.Groups) > MaxGroups {
		return fmt.Errorf("%w: webpubsub.group: %d groups, want at most %d", ErrClaimInvalid, len(c.Groups), MaxGroups)
	}
	for i, group := range c.Groups {
		if problem := checkName(group); problem != "" {
			return fmt.Errorf("%w: webpubsub.group[%d]: %s", ErrClaimInvalid, i, problem)
		}
	}
	return nil
}

// checkName says what is wrong with the name of a user or group; empty: nothing.
func checkName(name string) string {
	switch {
	case name == "":
		return "empty name"
	case len(name) > MaxNameBytes:
		return fmt.Sprintf("%d bytes, want at most %d", len(name), MaxNameBytes)
	case !utf8.ValidString(name):
		return "not UTF-8"
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return "control character"
		}
	}
	return ""
}

// explain turns an error of the JWT library into ours. The library's own text is dropped: it quotes
// pieces of the token.
func explain(err error) error {
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return fmt.Errorf("%w: malformed", ErrTokenInvalid)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid), errors.Is(err, jwt.ErrTokenUnverifiable):
		return fmt.Errorf("%w: wrong signature or algorithm", ErrTokenInvalid)
	case errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return fmt.Errorf("%w: no expiry", ErrTokenInvalid)
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return fmt.Errorf("%w: not valid yet", ErrTokenInvalid)
	case errors.Is(err, jwt.ErrTokenExpired):
		return ErrTokenExpired
	default:
		return fmt.Errorf("%w: not acceptable", ErrTokenInvalid)
	}
}
