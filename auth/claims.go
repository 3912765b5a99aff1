package auth

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/connhub/connhub/internal/names"
)

const (
	// MaxGroups is the most groups in one token; the same limit as in the API.
	MaxGroups = 128
	// MaxRoles is the most roles in one token: two for each group, to join it and to send to it.
	MaxRoles = 2 * MaxGroups
	// MaxLabels is the most labels in one token. They stay with a connection for its life, so they are few and short.
	MaxLabels = 16
	// MaxLabelNameBytes is the most bytes of a label's name.
	MaxLabelNameBytes = 64
	// MaxLabelValueBytes is the most bytes of a label's value.
	MaxLabelValueBytes = 256
)

// Names of claims: RFC 7519 §4.1, those of Web PubSub, and one of ours.
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

// Claims is what a client token says.
type Claims struct {
	User    string            // claim `sub`; empty: anonymous
	Groups  []string          // claim `webpubsub.group`: the groups that the connection starts in
	Roles   *Roles            // claim `role`: those that are known; nil: none
	Labels  map[string]string // claim `labels`: what backends are told of the connection
	Expires time.Time         // claim `exp`, in whole seconds
}

// check holds the rules for names and labels. It never shows one: control characters have no place in a log line.
func (c *Claims) check() error {
	if c.User != "" {
		if err := names.Check(c.User); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrClaimInvalid, claimUser, err)
		}
	}
	if len(c.Groups) > MaxGroups {
		return fmt.Errorf("%w: %s: %d groups, want at most %d", ErrClaimInvalid, claimGroup, len(c.Groups), MaxGroups)
	}
	for i, group := range c.Groups {
		if err := names.Check(group); err != nil {
			return fmt.Errorf("%w: %s[%d]: %w", ErrClaimInvalid, claimGroup, i, err)
		}
	}
	if len(c.Labels) > MaxLabels {
		return fmt.Errorf("%w: %s: %d labels, want at most %d", ErrClaimInvalid, claimLabels, len(c.Labels), MaxLabels)
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

// tokenClaims is the payload of a token as it stands. Its claims are decoded after the signature was checked, so that a wrong type is told as a wrong
// claim of a good token, by its name, and not as a malformed token.
type tokenClaims map[string]json.RawMessage

var _ jwt.Claims = (*tokenClaims)(nil)

// UnmarshalJSON takes a claim by its exact name. Decoding into a struct would take `SUB` for `sub`, and an issuer of other
// people's tokens may let its users choose the name of a claim that means nothing to it.
func (c *tokenClaims) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*c = all
	return nil
}

// GetExpirationTime implements jwt.Claims.
func (c *tokenClaims) GetExpirationTime() (*jwt.NumericDate, error) { return c.date(claimExpires) }

// GetIssuedAt implements jwt.Claims.
func (c *tokenClaims) GetIssuedAt() (*jwt.NumericDate, error) { return c.date(claimIssuedAt) }

// GetNotBefore implements jwt.Claims.
func (c *tokenClaims) GetNotBefore() (*jwt.NumericDate, error) { return c.date(claimNotBefore) }

// GetAudience implements jwt.Claims.
func (c *tokenClaims) GetAudience() (all jwt.ClaimStrings, err error) {
	return all, c.decode(claimAudience, &all, ErrTokenInvalid, "want a string or a list of strings")
}

// GetSubject implements jwt.Claims.
func (c *tokenClaims) GetSubject() (user string, err error) {
	return user, c.decode(claimUser, &user, ErrClaimInvalid, "want a string")
}

// GetIssuer implements jwt.Claims. The hub knows issuers by their keys alone.
func (c *tokenClaims) GetIssuer() (string, error) { return "", nil }

func (c *tokenClaims) date(claim string) (date *jwt.NumericDate, err error) {
	return date, c.decode(claim, &date, ErrTokenInvalid, "want a number of seconds since 1970 (RFC 7519 §2)")
}

// claimError is what is wrong with one claim. It holds nothing of the claim's value.
type claimError struct {
	kind           error // ErrTokenInvalid or ErrClaimInvalid
	claim, problem string
}

func (e *claimError) Error() string { return fmt.Sprintf("%v: %s: %s", e.kind, e.claim, e.problem) }
func (e *claimError) Unwrap() error { return e.kind }

// decode decodes a claim; one that is not there leaves `to` as it is.
func (c *tokenClaims) decode(claim string, to any, kind error, want string) error {
	raw := (*c)[claim]
	switch {
	case len(raw) == 0:
		return nil
	case HasLoneSurrogate(raw):
		return &claimError{kind, claim, "half of a surrogate pair is escaped, which is no character"}
	case json.Unmarshal(raw, to) != nil:
		return &claimError{kind, claim, want}
	}
	return nil
}

// claims decodes and checks what is particular to a hub.
func (c *tokenClaims) claims() (Claims, error) {
	user, err := c.GetSubject()
	if err != nil {
		return Claims{}, err
	}
	expires, err := c.GetExpirationTime()
	if err != nil {
		return Claims{}, err
	}
	var groups, names stringOrList
	var labels map[string]string
	for _, claim := range []struct {
		name string
		to   any
		want string
	}{
		{claimGroup, &groups, "want a string or a list of strings"},
		{claimRole, &names, "want a string or a list of strings"},
		{claimLabels, &labels, "want an object of strings"},
	} {
		if err := c.decode(claim.name, claim.to, ErrClaimInvalid, claim.want); err != nil {
			return Claims{}, err
		}
	}
	roles, err := ParseRoles(names)
	if err != nil {
		return Claims{}, err
	}
	all := Claims{User: user, Groups: groups, Roles: roles, Labels: labels, Expires: expires.Time}
	if err := all.check(); err != nil {
		return Claims{}, err
	}
	return all, nil
}

// stringOrList is a claim that is one name or a list of names.
type stringOrList []string

// UnmarshalJSON takes both forms.
func (s *stringOrList) UnmarshalJSON(b []byte) error {
	var one string
	if b[0] == '"' && json.Unmarshal(b, &one) == nil {
		*s = stringOrList{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(s))
}
