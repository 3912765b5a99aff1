package hub

import (
	"context"
	"errors"
	"slices"

	"github.com/connhub/connhub/hub/permission"
)

// Actions of clients, as their protocol has decoded them. All methods may be called concurrently,
// as all of Connection.

// May reports whether the client has a permission. The latest grant or revocation decides, or else
// its roles.
func (c *Connection) May(p permission.Permission) bool {
	c.mu.Lock()
	grants, claims := c.state.Grants, c.state.Claims
	c.mu.Unlock()
	if allowed, decided := grants.Decide(p); decided {
		return allowed
	}
	return claims != nil && claims.Roles != nil && claims.Roles.Allows(p)
}

// granting adds the same grants to many connections. Most of them have equal grants before, and
// share the result.
type granting struct {
	all []permission.Grant
	// made holds the results by the grants before.
	made map[*permission.Grants]*permission.Grants
}

func (g *granting) extendGrants(before *permission.Grants) *permission.Grants {
	next, ok := g.made[before]
	if !ok {
		next = before
		for _, n := range g.all {
			next = next.With(n)
		}
		g.made[before] = next
	}
	return next
}

// addGrants gives the client permissions, or takes them away, all or none. It returns ErrClosed or
// ErrGrantLimit.
func (c *Connection) addGrants(g *granting) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.isGone() {
		return ErrClosed
	}
	next := g.extendGrants(c.state.Grants)
	if next.Len() > permission.MaxGrants {
		return ErrGrantLimit
	}
	c.applyLocked(Op{Kind: OpGrant, Grants: next})
	return nil
}

// Permitted is the result of Permit.
type Permitted struct {
	// Matched counts the connections that matched the target, Changed those that got the grants.
	Matched, Changed int
	// Refused counts connections that would have more than permission.MaxGrants grants. They got
	// none of these.
	Refused int
	// Closed counts connections that closed meanwhile.
	Closed int

	// Refusals are those counted in Refused and Closed, MaxRefusals at most.
	Refusals []Refusal
}

// Permit gives permissions to the connections that match, or takes them away.
func (h *Hub) Permit(
	ctx context.Context, namespace string, t *Target, grants []permission.Grant,
) (Permitted, error) {
	matched := h.listMatching(namespace, t)
	r := Permitted{Matched: len(matched)}
	g := &granting{grants, make(map[*permission.Grants]*permission.Grants)}
	for _, c := range matched {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		switch err := c.addGrants(g); {
		case errors.Is(err, ErrGrantLimit):
			r.Refused++
			r.Refusals = appendRefusal(r.Refusals, Refusal{c.ID(), "", ErrGrantLimit})
		case err != nil:
			r.Closed++
			r.Refusals = appendRefusal(r.Refusals, Refusal{c.ID(), "", ErrClosed})
		default:
			r.Changed++
		}
	}
	return r, nil
}

// Permits returns how many connections match, and how many of them have all the permissions.
func (h *Hub) Permits(
	ctx context.Context, namespace string, t *Target, permissions []permission.Permission,
) (matched, allowed int, _ error) {
	all := h.listReadable(namespace, t)
	for _, c := range all {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		lacks := func(p permission.Permission) bool { return !c.May(p) }
		if !slices.ContainsFunc(permissions, lacks) {
			allowed++
		}
	}
	return len(all), allowed, nil
}
