package handover

import (
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// RestoreClaims returns claims with the roles of these names. The claims that it gets have none.
// The result may be shared, or nil if nothing is left. It returns an error if it does not know a
// role. It must be safe for concurrent use. edge.RestoreClaims is one.
type RestoreClaims func(roles []string, claims hub.Claims) (*hub.Claims, error)

// namedRoles are permission.Roles that have names, by which a different hub knows them.
type namedRoles interface {
	// Names returns the names, which the caller must not change.
	Names() []string
}

// encodeClaims returns nil for nil. Error: ErrUnfit.
func encodeClaims(c *hub.Claims, now time.Time) (*peerv1.HandoverClaims, error) {
	if c == nil {
		return nil, nil //nolint:nilnil // nothing else is known of the client
	}
	made := &peerv1.HandoverClaims{
		Labels: c.Labels, ExpiresIn: encodeUntil(c.Expires, now), Private: []byte(c.Private),
	}
	if c.Roles != nil {
		named, ok := c.Roles.(namedRoles)
		if !ok {
			return nil, unfitError("roles of type %T have no names", c.Roles)
		}
		made.Roles = named.Names()
	}
	return made, nil
}

// decodeClaims is the inverse of encodeClaims. Error: ErrBroken.
func decodeClaims(
	m *peerv1.HandoverClaims, now time.Time, restore RestoreClaims,
) (*hub.Claims, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // nothing else is known of the client
	}
	if err := checkKnown(m); err != nil {
		return nil, err
	}
	expires, err := decodeUntil(m.GetExpiresIn(), now)
	if err != nil {
		return nil, err
	}
	claims, err := restore(m.GetRoles(), hub.Claims{
		Labels: m.GetLabels(), Expires: expires, Private: string(m.GetPrivate()),
	})
	if err != nil {
		return nil, brokenError("%v", err)
	}
	return claims, nil
}
