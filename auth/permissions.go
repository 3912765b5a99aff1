package auth

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// MaxGrants is the most run-time grants and revocations of one connection that differ from its roles. A backend that needs
// more is better served by a pattern in the token.
const MaxGrants = 1024

// ErrGrantLimit: a connection would have more than MaxGrants run-time grants.
var ErrGrantLimit = errors.New("too many run-time grants")

// Permissions is what a connection may do: what its token says, and what backends have said since. The last word counts. It
// is plain data, 32 bytes for a connection of which no backend has said anything; the zero value allows nothing. A value
// never changes: Grant and Revoke return another one.
type Permissions struct {
	Roles *Roles // of the token

	// Grants are what backends said since, where it is not what Roles say: sorted by permission and group, each once.
	// Grant and Revoke make them; they are exported to be stored and sent elsewhere, not to be written.
	Grants []Grant
}

// Grant is what a backend has said of one permission while the connection was there.
type Grant struct {
	Permission Permission
	Group      string // empty: every group of which nothing else is said
	Revoked    bool   // not granted, but taken away
}

// MayJoin tells whether the connection may join and leave a group.
func (p Permissions) MayJoin(group string) bool { return p.may(JoinLeaveGroup, group) }

// MaySend tells whether the connection may send to a group.
func (p Permissions) MaySend(group string) bool { return p.may(SendToGroup, group) }

// Check tells whether the connection may do something with a group, or, when group is empty, with every group.
func (p Permissions) Check(what Permission, group string) bool {
	switch {
	case what >= permissionEnd:
		return false
	case group != "":
		return p.may(what, group)
	}
	except := func(g Grant) bool { return g.Permission == what && g.Group != "" && g.Revoked }
	return p.mayAll(what) && !slices.ContainsFunc(p.Grants, except)
}

// Grant returns the permissions with one more, for a group or, when it is empty, for every group. Errors: ErrGrantLimit.
func (p Permissions) Grant(what Permission, group string) (Permissions, error) {
	return p.say(Grant{Permission: what, Group: group})
}

// Revoke returns the permissions without one, for a group or, when it is empty, for every group, whatever the token says.
// Errors: ErrGrantLimit.
func (p Permissions) Revoke(what Permission, group string) (Permissions, error) {
	return p.say(Grant{Permission: what, Group: group, Revoked: true})
}

func (p Permissions) may(what Permission, group string) bool {
	if said, ok := p.said(what, group); ok {
		return !said.Revoked
	}
	if said, ok := p.said(what, ""); ok {
		return !said.Revoked
	}
	return p.Roles.allow(what, group)
}

// mayAll tells what goes for groups of which nothing else is said.
func (p Permissions) mayAll(what Permission) bool {
	if said, ok := p.said(what, ""); ok {
		return !said.Revoked
	}
	return p.Roles.allowAll(what)
}

func (p Permissions) said(what Permission, group string) (Grant, bool) {
	i, found := p.find(what, group)
	if !found {
		return Grant{}, false
	}
	return p.Grants[i], true
}

func (p Permissions) find(what Permission, group string) (int, bool) {
	return slices.BinarySearchFunc(p.Grants, Grant{Permission: what, Group: group}, compareGrants)
}

func compareGrants(a, b Grant) int {
	return cmp.Or(cmp.Compare(a.Permission, b.Permission), cmp.Compare(a.Group, b.Group))
}

// say returns the permissions after g, which stands above all that was said of the same before.
func (p Permissions) say(g Grant) (Permissions, error) {
	if g.Permission >= permissionEnd {
		return p, fmt.Errorf("%s: no such permission", g.Permission)
	}
	grants := make([]Grant, 0, len(p.Grants)+1)
	for _, old := range p.Grants {
		if old.Permission != g.Permission || old.Group != g.Group && g.Group != "" {
			grants = append(grants, old)
		}
	}
	p.Grants = grants
	if p.needs(g) {
		if len(grants) == MaxGrants {
			return p, ErrGrantLimit
		}
		i, _ := p.find(g.Permission, g.Group)
		p.Grants = slices.Insert(grants, i, g)
	}
	if len(p.Grants) == 0 {
		p.Grants = nil
	}
	return p, nil
}

// needs tells whether something would be different without g.
func (p Permissions) needs(g Grant) bool {
	if g.Group != "" {
		return p.may(g.Permission, g.Group) == g.Revoked
	}
	if g.Revoked {
		return p.Roles != nil // or there is nothing to take away
	}
	return !p.Roles.allowAll(g.Permission)
}
