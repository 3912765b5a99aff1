package auth

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

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

// tokenClaims is the payload of a token with its claims undecoded. The claims are decoded after the
// signature was checked. So the error for a claim of a wrong type names the claim, and does not say
// that the token is malformed.
type tokenClaims map[string]json.RawMessage

var _ jwt.Claims = (*tokenClaims)(nil)

// UnmarshalJSON keeps the exact names of the claims. Decoding into a struct would take `SUB` for
// `sub`: an issuer that lets its users add claims under names of their own would let them set
// `sub`.
func (c *tokenClaims) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	*c = all
	return nil
}

// GetExpirationTime implements jwt.Claims.
func (c *tokenClaims) GetExpirationTime() (*jwt.NumericDate, error) {
	return c.decodeDate(claimExpires)
}

// GetIssuedAt implements jwt.Claims.
func (c *tokenClaims) GetIssuedAt() (*jwt.NumericDate, error) { return c.decodeDate(claimIssuedAt) }

// GetNotBefore implements jwt.Claims.
func (c *tokenClaims) GetNotBefore() (*jwt.NumericDate, error) {
	return c.decodeDate(claimNotBefore)
}

// GetAudience implements jwt.Claims.
func (c *tokenClaims) GetAudience() (all jwt.ClaimStrings, err error) {
	return all, c.decodeClaim(claimAudience, &all, ErrTokenInvalid,
		"want a string or a list of strings")
}

// GetSubject implements jwt.Claims.
func (c *tokenClaims) GetSubject() (user string, err error) {
	return user, c.decodeClaim(claimUser, &user, ErrClaimInvalid, "want a string")
}

// GetIssuer implements jwt.Claims. It returns "": the hub tells issuers apart by their keys, not by
// the claim `iss`.
func (c *tokenClaims) GetIssuer() (string, error) { return "", nil }

func (c *tokenClaims) decodeDate(claim string) (date *jwt.NumericDate, err error) {
	const want = "want a number of seconds since 1970 (RFC 7519 §2)"
	return date, c.decodeClaim(claim, &date, ErrTokenInvalid, want)
}

// claimError is the error for a claim that can't be decoded. It holds nothing of the claim's value.
type claimError struct {
	kind    error  // ErrTokenInvalid or ErrClaimInvalid
	claim   string // the claim's name
	problem string
}

func (e *claimError) Error() string { return fmt.Sprintf("%v: %s: %s", e.kind, e.claim, e.problem) }
func (e *claimError) Unwrap() error { return e.kind }

// decodeClaim decodes a claim into `to`, and leaves `to` as it is if the token does not have the
// claim. An error wraps kind and says want.
func (c *tokenClaims) decodeClaim(claim string, to any, kind error, want string) error {
	raw := (*c)[claim]
	switch {
	case len(raw) == 0:
		return nil
	case HasLoneSurrogate(raw):
		return &claimError{
			kind, claim, "half of a surrogate pair is escaped, which is no character",
		}
	case json.Unmarshal(raw, to) != nil:
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
		if err := c.decodeClaim(claim.name, claim.to, ErrClaimInvalid, claim.want); err != nil {
			return Claims{}, err
		}
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
