package auth

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/connhub/connhub/internal/jsonparts"
	"github.com/connhub/connhub/internal/names"
)

const (
	// MaxGroups is the limit of groups in a token, and equals the limit in the API.
	MaxGroups = 128
	// MaxRoles is the limit of roles in a token. It suffices to join and to send to MaxGroups
	// groups.
	MaxRoles = 2 * MaxGroups
	// MaxLabels is the limit of labels in a token. It is low because a connection keeps its labels
	// for its whole life.
	MaxLabels = 16
	// MaxLabelNameBytes is the limit of a label's name, in bytes.
	MaxLabelNameBytes = 64
	// MaxLabelValueBytes is the limit of a label's value, in bytes.
	MaxLabelValueBytes = 256
)

// Names of claims. They come from RFC 7519 §4.1 and from Web PubSub; only `labels` is ours.
const (
	claimUser      = "sub"
	claimAudience  = "aud"
	claimExpires   = "exp"
	claimNotBefore = "nbf"
	claimIssuedAt  = "iat"
	claimGroup     = "webpubsub.group"
	claimRole      = "role"
	claimLabels    = "labels"
)

// Claims is the content of a client token.
type Claims struct {
	// User is the claim `sub`. Empty: the client is anonymous.
	User string
	// Groups is the claim `webpubsub.group`: the groups that the connection starts in, at most
	// MaxGroups.
	Groups []string
	// Roles is the claim `role`, without unknown roles. Nil: the client has no known role.
	Roles *Roles
	// Labels is the claim `labels`: at most MaxLabels texts that the hub passes on to backends.
	Labels map[string]string
	// Expires is the claim `exp`, in whole seconds.
	Expires time.Time
}

// checkValues checks the names, the labels and their counts. Its errors quote no value, because a
// value may have control characters, which do not belong in a log line.
func (c *Claims) checkValues() error {
	if c.User != "" {
		if err := names.Check(c.User); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrClaimInvalid, claimUser, err)
		}
	}
	if len(c.Groups) > MaxGroups {
		return fmt.Errorf("%w: %s: %d groups, want at most %d",
			ErrClaimInvalid, claimGroup, len(c.Groups), MaxGroups)
	}
	for i, group := range c.Groups {
		if err := names.Check(group); err != nil {
			return fmt.Errorf("%w: %s[%d]: %w", ErrClaimInvalid, claimGroup, i, err)
		}
	}
	if len(c.Labels) > MaxLabels {
		return fmt.Errorf("%w: %s: %d labels, want at most %d",
			ErrClaimInvalid, claimLabels, len(c.Labels), MaxLabels)
	}
	for name, value := range c.Labels {
		if name == "" {
			return fmt.Errorf("%w: %s: a name: %w", ErrClaimInvalid, claimLabels, names.ErrEmpty)
		}
		if err := names.CheckText(name, MaxLabelNameBytes); err != nil {
			return fmt.Errorf("%w: %s: a name: %w", ErrClaimInvalid, claimLabels, err)
		}
		if err := names.CheckText(value, MaxLabelValueBytes); err != nil {
			return fmt.Errorf("%w: %s: a value: %w", ErrClaimInvalid, claimLabels, err)
		}
	}
	return nil
}

// tokenClaims has the claims that a hub uses, undecoded: parts of the payload. Nil: the token does
// not have the claim. They are decoded after the signature was checked. So the error for a claim of
// a wrong type names the claim, and does not say that the token is malformed.
type tokenClaims struct {
	user, audience, expires, notBefore, issuedAt, group, role, labels []byte
}

var _ jwt.Claims = (*tokenClaims)(nil)

// findClaim returns the place of a claim, or nil if a hub does not use it. The names of claims are
// exact. Decoding into a struct would take `SUB` for `sub`: an issuer that lets its users add
// claims under names of their own would let them set `sub`.
func (c *tokenClaims) findClaim(name []byte) *[]byte {
	switch string(name) {
	case claimUser:
		return &c.user
	case claimAudience:
		return &c.audience
	case claimExpires:
		return &c.expires
	case claimNotBefore:
		return &c.notBefore
	case claimIssuedAt:
		return &c.issuedAt
	case claimGroup:
		return &c.group
	case claimRole:
		return &c.role
	case claimLabels:
		return &c.labels
	default:
		return nil
	}
}

// parsePayload keeps parts of a payload. Of claims with the same name the last counts (RFC 7519
// §4).
func (c *tokenClaims) parsePayload(payload []byte) error {
	return eachMember(payload, func(name, value []byte) {
		if claim := c.findClaim(name); claim != nil {
			*claim = value
		}
	})
}

// GetExpirationTime implements jwt.Claims.
func (c *tokenClaims) GetExpirationTime() (*jwt.NumericDate, error) {
	return decodeDate(claimExpires, c.expires)
}

// GetIssuedAt implements jwt.Claims.
func (c *tokenClaims) GetIssuedAt() (*jwt.NumericDate, error) {
	return decodeDate(claimIssuedAt, c.issuedAt)
}

// GetNotBefore implements jwt.Claims.
func (c *tokenClaims) GetNotBefore() (*jwt.NumericDate, error) {
	return decodeDate(claimNotBefore, c.notBefore)
}

// GetAudience implements jwt.Claims.
func (c *tokenClaims) GetAudience() (jwt.ClaimStrings, error) {
	if text, ok := plainText(c.audience); ok {
		return jwt.ClaimStrings{string(text)}, nil
	}
	var all jwt.ClaimStrings
	err := decodeClaim(claimAudience, c.audience, &all, ErrTokenInvalid,
		"want a string or a list of strings")
	return all, err
}

// GetSubject implements jwt.Claims.
func (c *tokenClaims) GetSubject() (user string, err error) {
	if text, ok := plainText(c.user); ok {
		return string(text), nil
	}
	err = decodeClaim(claimUser, c.user, &user, ErrClaimInvalid, "want a string")
	return user, err
}

// GetIssuer implements jwt.Claims. It returns "": the hub tells issuers apart by their keys, not by
// the claim `iss`.
func (c *tokenClaims) GetIssuer() (string, error) { return "", nil }

// maxPlainDigits is the most digits of a time that is decoded as an integer. All of them are exact
// as a floating-point number too, which is how package jwt decodes a time.
const maxPlainDigits = 15

func decodeDate(claim string, value []byte) (date *jwt.NumericDate, err error) {
	if seconds, ok := plainSeconds(value); ok {
		return jwt.NewNumericDate(time.Unix(seconds, 0)), nil
	}
	const want = "want a number of seconds since 1970 (RFC 7519 §2)"
	err = decodeClaim(claim, value, &date, ErrTokenInvalid, want)
	return date, err
}

// plainSeconds returns a number that is only digits, at most maxPlainDigits.
func plainSeconds(value []byte) (n int64, ok bool) {
	for _, b := range value {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = 10*n + int64(b-'0')
	}
	return n, len(value) > 0 && len(value) <= maxPlainDigits
}

// claimError is the error for a claim that can't be decoded. It holds nothing of the claim's value.
type claimError struct {
	kind    error  // ErrTokenInvalid or ErrClaimInvalid
	claim   string // the claim's name
	problem string
}

func (e *claimError) Error() string { return fmt.Sprintf("%v: %s: %s", e.kind, e.claim, e.problem) }
func (e *claimError) Unwrap() error { return e.kind }

// decodeClaim decodes the value of a claim into `to`, and leaves `to` as it is if the token does
// not have the claim. An error wraps kind and says want.
func decodeClaim(claim string, value []byte, to any, kind error, want string) error {
	switch {
	case len(value) == 0:
		return nil
	case HasLoneSurrogate(value):
		return &claimError{
			kind, claim, "half of a surrogate pair is escaped, which is no character",
		}
	case json.Unmarshal(value, to) != nil:
		return &claimError{kind, claim, want}
	}
	return nil
}

// toClaims decodes and checks the claims that a hub uses.
func (c *tokenClaims) toClaims() (Claims, error) {
	user, err := c.GetSubject()
	if err != nil {
		return Claims{}, err
	}
	expires, err := c.GetExpirationTime()
	if err != nil {
		return Claims{}, err
	}
	groups, err := decodeList(claimGroup, c.group)
	if err != nil {
		return Claims{}, err
	}
	names, err := decodeList(claimRole, c.role)
	if err != nil {
		return Claims{}, err
	}
	var labels map[string]string
	if err := decodeClaim(claimLabels, c.labels, &labels, ErrClaimInvalid,
		"want an object of strings"); err != nil {
		return Claims{}, err
	}
	roles, err := ParseRoles(names)
	if err != nil {
		return Claims{}, err
	}
	all := Claims{User: user, Groups: groups, Roles: roles, Labels: labels, Expires: expires.Time}
	if err := all.checkValues(); err != nil {
		return Claims{}, err
	}
	return all, nil
}

// decodeList decodes a claim that is a string or a list of strings.
func decodeList(claim string, value []byte) ([]string, error) {
	if list, ok := plainList(value); ok {
		return list, nil
	}
	var list stringOrList
	err := decodeClaim(claim, value, &list, ErrClaimInvalid, "want a string or a list of strings")
	return list, err
}

// plainList returns a string, or a list of strings, of plain text. ok is false for any different
// value.
func plainList(value []byte) (list []string, ok bool) {
	if text, ok := plainText(value); ok {
		return []string{string(text)}, true
	}
	elements, ok := jsonparts.OfList(value)
	for ok {
		element := elements.Next()
		if len(element) == 0 {
			return list, true
		}
		text, ok := plainText(element)
		if !ok {
			return nil, false
		}
		list = append(list, string(text))
	}
	return nil, false
}

// stringOrList is a claim that is a string or a list of strings.
type stringOrList []string

// UnmarshalJSON decodes both forms.
func (s *stringOrList) UnmarshalJSON(b []byte) error {
	var single string
	if b[0] == '"' && json.Unmarshal(b, &single) == nil {
		*s = stringOrList{single}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}
