package auth

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// MaxNameBytes is the most bytes of a user or group name; the same limit as in the API.
	MaxNameBytes = 1024
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
		if problem := checkName(c.User); problem != "" {
			return fmt.Errorf("%w: %s: %s", ErrClaimInvalid, claimUser, problem)
		}
	}
	if len(c.Groups) > MaxGroups {
		return fmt.Errorf("%w: %s: %d groups, want at most %d", ErrClaimInvalid, claimGroup, len(c.Groups), MaxGroups)
	}
	for i, group := range c.Groups {
		if problem := checkName(group); problem != "" {
			return fmt.Errorf("%w: %s[%d]: %s", ErrClaimInvalid, claimGroup, i, problem)
		}
	}
	if len(c.Labels) > MaxLabels {
		return fmt.Errorf("%w: %s: %d labels, want at most %d", ErrClaimInvalid, claimLabels, len(c.Labels), MaxLabels)
	}
	for name, value := range c.Labels {
		if problem := checkText(name, MaxLabelNameBytes); problem != "" || name == "" {
			return fmt.Errorf("%w: %s: a name is empty or wrong: %s", ErrClaimInvalid, claimLabels, problem)
		}
		if problem := checkText(value, MaxLabelValueBytes); problem != "" {
			return fmt.Errorf("%w: %s: a value: %s", ErrClaimInvalid, claimLabels, problem)
		}
	}
	return nil
}

// checkName says what is wrong with the name of a user or group; empty: nothing.
func checkName(name string) string {
	if name == "" {
		return "empty name"
	}
	return checkText(name, MaxNameBytes)
}

// checkText says what is wrong with a text that may be empty; empty: nothing.
func checkText(text string, most int) string {
	switch {
	case len(text) > most:
		return fmt.Sprintf("%d bytes, want at most %d", len(text), most)
	case !utf8.ValidString(text):
		return "not UTF-8"
	}
	for _, r := range text {
		if unicode.IsControl(r) {
			return "control character"
		}
	}
	return ""
}

// tokenClaims is the payload of a token as it stands.
type tokenClaims struct {
	jwt.RegisteredClaims

	// Decoded after the signature was checked, so that a wrong type is a wrong claim of a good token and not a malformed
	// one.
	group, role, labels json.RawMessage
}

var _ jwt.Claims = (*tokenClaims)(nil)

// UnmarshalJSON takes a claim by its exact name. Decoding into a struct would take `SUB` for `sub`, and an issuer of other
// people's tokens may let its users choose the name of a claim that means nothing to it.
func (c *tokenClaims) UnmarshalJSON(b []byte) error {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(b, &all); err != nil {
		return err
	}
	for name, to := range map[string]any{
		claimUser: &c.Subject, claimAudience: &c.Audience, claimExpires: &c.ExpiresAt, claimNotBefore: &c.NotBefore, claimIssuedAt: &c.IssuedAt,
	} {
		if raw, ok := all[name]; ok {
			if err := json.Unmarshal(raw, to); err != nil {
				return fmt.Errorf("claim %s: %w", name, err)
			}
		}
	}
	c.group, c.role, c.labels = all[claimGroup], all[claimRole], all[claimLabels]
	return nil
}

// claims decodes and checks what is particular to a hub.
func (c *tokenClaims) claims() (Claims, error) {
	groups, err := stringOrList(claimGroup, c.group)
	if err != nil {
		return Claims{}, err
	}
	names, err := stringOrList(claimRole, c.role)
	if err != nil {
		return Claims{}, err
	}
	roles, err := ParseRoles(names)
	if err != nil {
		return Claims{}, err
	}
	var labels map[string]string
	if len(c.labels) > 0 && json.Unmarshal(c.labels, &labels) != nil {
		return Claims{}, fmt.Errorf("%w: %s is not an object of strings", ErrClaimInvalid, claimLabels)
	}
	all := Claims{User: c.Subject, Groups: groups, Roles: roles, Labels: labels, Expires: c.ExpiresAt.Time}
	if err := all.check(); err != nil {
		return Claims{}, err
	}
	return all, nil
}

// stringOrList decodes a claim that is one name or a list of names, or is not there.
func stringOrList(claim string, raw json.RawMessage) ([]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var one string
	if raw[0] == '"' && json.Unmarshal(raw, &one) == nil {
		return []string{one}, nil
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil {
		return nil, fmt.Errorf("%w: %s is not a string or a list of strings", ErrClaimInvalid, claim)
	}
	return list, nil
}
