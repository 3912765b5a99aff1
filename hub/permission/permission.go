// Package permission names the actions of clients, and decides from grants which are allowed.
package permission

import "slices"

// Action is the kind of a permission.
type Action uint8

const (
	// JoinGroup is to enter a group and to leave it.
	JoinGroup Action = iota + 1
	// SendToGroup is to send to all members of a group.
	SendToGroup
)

// Permission allows an action on a group, or on any group if Group is empty.
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

// MaxGrants bounds the grants and revocations of a connection. A grant without a group replaces
// all of its action.
const MaxGrants = 1000

// Grants are the changes to a client's permissions. A nil *Grants has none. Immutable.
type Grants struct{ list []Grant }

// GrantsOf returns the grants of a list whose order is the order in which they count. It returns
// nil for an empty list.
func GrantsOf(list []Grant) *Grants {
	if len(list) == 0 {
		return nil
	}
	return &Grants{slices.Clone(list)}
}

// List returns the grants in the order in which they count, or nil if there are none.
func (g *Grants) List() []Grant {
	if g == nil {
		return nil
	}
	return slices.Clone(g.list)
}

// Len returns how many grants there are.
func (g *Grants) Len() int {
	if g == nil {
		return 0
	}
	return len(g.list)
}

// With returns the grants and n. It leaves out the grants that n makes pointless.
func (g *Grants) With(n Grant) *Grants {
	next := &Grants{}
	if g != nil {
		next.list = slices.DeleteFunc(slices.Clone(g.list), func(o Grant) bool {
			return o.Action == n.Action && (n.Group == "" || o.Group == n.Group)
		})
	}
	next.list = append(next.list, n)
	return next
}

// Decide returns the grants' decision on a permission, if there is one. A grant that names the
// group goes before a grant that names none. A permission for any group stands only if no
// revocation names a single group.
func (g *Grants) Decide(p Permission) (allowed, decided bool) {
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
