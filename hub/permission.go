package hub

import (
	"context"
	"errors"
	"slices"
)

// Actions of clients, as their protocol has decoded them. All methods may be called concurrently,
// as all of Connection.

// Action is the kind of a permission.
type Action uint8

const (
	// JoinGroup is to enter a group and to leave it.
	JoinGroup Action = iota + 1
	// SendToGroup is to send to all members of a group.
	SendToGroup
)

// Permission allows an action on one group, or on any group if Group is empty.
type Permission struct {
	// Action is the kind of action that is allowed.
	Action Action
	// Group is empty for any group.
	Group string
}

// Roles decides the permissions that a client has from the start. Immutable; connections may share
// it.
type Roles interface {
	// Allows reports whether the roles include the permission.
	Allows(Permission) bool
}

// Grant is a permission that was given, or taken away, at run time.
type Grant struct {
	Permission

	// Revoked is set if the permission was taken away.
	Revoked bool
}

// MaxGrants bounds the grants and revocations of one connection. A grant without a group replaces
// all of its action.
const MaxGrants = 1000

// Grants are the changes to a client's permissions. Immutable.
type Grants struct{ list []Grant }

// withGrant returns the grants and n. It leaves out the grants that n makes pointless.
func (g *Grants) withGrant(n Grant) *Grants {
	next := &Grants{}
	if g != nil {
		next.list = slices.DeleteFunc(slices.Clone(g.list), func(o Grant) bool {
			return o.Action == n.Action && (n.Group == "" || o.Group == n.Group)
		})
	}
	next.list = append(next.list, n)
	return next
}

// decidesOn returns the grants' decision on a permission, if there is one. A grant that names the
// group goes before a grant that names none. A permission for any group stands only if no
// revocation names a single group.
func (g *Grants) decidesOn(p Permission) (allowed, decided bool) {
	if g == nil {
		return false, false
	}
	for _, o := range g.list {
		switch {
		case o.Action != p.Action:
		case o.Group == p.Group:
			allowed, decided = !o.Revoked, true
			if p.Group != "" {
				return allowed, true
			}
		case o.Group == "":
			allowed, decided = !o.Revoked, true
		}
	}
	revokes := func(o Grant) bool { return o.Action == p.Action && o.Revoked }
	if p.Group == "" && slices.ContainsFunc(g.list, revokes) {
		return false, true
	}
	return allowed, decided
}

// May reports whether the client has a permission. The latest grant or revocation decides, or else
// its roles.
func (c *Connection) May(p Permission) bool {
	c.mu.Lock()
	grants, claims := c.state.Grants, c.state.Claims
	c.mu.Unlock()
	if allowed, decided := grants.decidesOn(p); decided {
		return allowed
	}
	return claims != nil && claims.Roles != nil && claims.Roles.Allows(p)
}

// granting adds the same grants to many connections. Most of them have equal grants before, and
// share the result.
type granting struct {
	all []Grant
	// made holds the results by the grants before.
	made map[*Grants]*Grants
}

func (g *granting) extendGrants(before *Grants) *Grants {
	next, ok := g.made[before]
	if !ok {
		next = before
		for _, n := range g.all {
			next = next.withGrant(n)
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
	if next != nil && len(next.list) > MaxGrants {
		return ErrGrantLimit
	}
	c.applyLocked(Op{Kind: OpGrant, Grants: next})
	return nil
}

// Permitted is the result of Permit.
type Permitted struct {
	// Matched counts the connections that matched the target, Changed those that got the grants.
	Matched, Changed int
	// Refused counts connections that would have more than MaxGrants grants. They got none of
	// these.
	Refused int
	// Closed counts connections that closed meanwhile.
	Closed int

	// Refusals are those counted in Refused and Closed, MaxRefusals at most.
	Refusals []Refusal
}

// Permit gives permissions to the connections that match, or takes them away.
func (h *Hub) Permit(
	ctx context.Context, namespace string, t *Target, grants []Grant,
) (Permitted, error) {
	matched := h.listMatching(namespace, t)
	r := Permitted{Matched: len(matched)}
	g := &granting{grants, make(map[*Grants]*Grants)}
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
	ctx context.Context, namespace string, t *Target, permissions []Permission,
) (matched, allowed int, _ error) {
	all := h.listMatching(namespace, t)
	for _, c := range all {
		if err := ctx.Err(); err != nil {
			return 0, 0, err
		}
		if !slices.ContainsFunc(permissions, func(p Permission) bool { return !c.May(p) }) {
			allowed++
		}
	}
	return len(all), allowed, nil
}
