package hub

import (
	"context"
	"errors"
	"slices"
)

// What a client does by itself, when its protocol has decoded it. The methods here may be called concurrently, as all of Connection.

// Action is what a permission is for.
type Action uint8

const (
	// JoinGroup is to enter a group and to leave it.
	JoinGroup Action = iota + 1
	// SendToGroup is to send to all members of a group.
	SendToGroup
)

// Permission is to do something with one group, or, where Group is empty, with any.
type Permission struct {
	Action Action
	Group  string
}

// Roles is what a client may do from the start. Immutable; connections may share it.
type Roles interface {
	// Allows reports whether the roles include the permission.
	Allows(Permission) bool
}

// Grant is a permission that was given, or taken away, at run time.
type Grant struct {
	Permission

	Revoked bool
}

// MaxGrants is the most grants and revocations that one connection may have. One without a group replaces all of its action.
const MaxGrants = 1000

// Grants are the changes to what a client may do. Immutable.
type Grants struct{ list []Grant }

// with returns the grants and one more, which replaces those that it makes pointless.
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

// decides returns what the grants say about a permission, if they do: what names the group comes before what names none. A permission for
// any group is there only if nothing takes away a single one.
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
	if p.Group == "" && slices.ContainsFunc(g.list, func(o Grant) bool { return o.Action == p.Action && o.Revoked }) {
		return false, true
	}
	return allowed, decided
}

// May reports whether the client may do something: what was granted or revoked last counts, then its roles.
func (c *Connection) May(p Permission) bool {
	c.mu.Lock()
	grants, claims := c.state.Grants, c.state.Claims
	c.mu.Unlock()
	if allowed, decided := grants.decidesOn(p); decided {
		return allowed
	}
	return claims != nil && claims.Roles != nil && claims.Roles.Allows(p)
}

// granting adds grants to what many connections have already: most have the same, and share what comes of it.
type granting struct {
	all  []Grant
	made map[*Grants]*Grants // by what was there before
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

// grant gives the client permissions, or takes them away, all or none. Errors: ErrClosed, ErrGrantLimit.
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

// Permitted tells what Permit changed.
type Permitted struct {
	Matched int
	Changed int
	Refused int // it would have more than MaxGrants grants; it has got none of these
	Closed  int // the connection closed meanwhile

	Refusals []Refusal // those counted in Refused and Closed, MaxRefusals at most
}

// Permit gives the connections that match permissions, or takes them away.
func (h *Hub) Permit(ctx context.Context, namespace string, t *Target, grants []Grant) (Permitted, error) {
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
func (h *Hub) Permits(ctx context.Context, namespace string, t *Target, permissions []Permission) (matched, allowed int, _ error) {
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
