package auth

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"weak"

	"github.com/connhub/connhub/internal/names"
)

// Permission is a right of a client in groups. A client without permissions can only receive
// messages and send events to backends.
type Permission uint8

const (
	// JoinLeaveGroup permits a client to join and leave a group.
	JoinLeaveGroup Permission = iota
	// SendToGroup permits a client to send messages to a group.
	SendToGroup

	permissionEnd
)

var permissionNames = [permissionEnd]string{
	JoinLeaveGroup: "joinLeaveGroup", SendToGroup: "sendToGroup",
}

// String returns the permission's name in Web PubSub.
func (p Permission) String() string {
	if p >= permissionEnd {
		return fmt.Sprintf("permission_%d", uint8(p))
	}
	return permissionNames[p]
}

// rolePrefix is the prefix of all known roles.
const rolePrefix = "webpubsub."

// Roles are the known roles of a token; unknown roles are left out. They never change. Equal Roles
// are the same pointer, so that a million connections with the same roles share them. Nil Roles
// have no role.
type Roles struct {
	list  []string // names of the roles, sorted, without repetition
	rules [permissionEnd]rule
}

// rule has the groups in which the roles give a permission.
type rule struct {
	all      bool      // all groups
	groups   []string  // these groups, sorted
	patterns []pattern // and the groups that match
}

// Everything returns the roles that allow everything.
func Everything() *Roles {
	r, err := ParseRoles([]string{
		rolePrefix + JoinLeaveGroup.String(), rolePrefix + SendToGroup.String(),
	})
	if err != nil {
		panic(err) // can't happen: the names are constants, and a test parses them
	}
	return r
}

// ParseRoles returns the roles of these names:
//
//	webpubsub.joinLeaveGroup             webpubsub.sendToGroup             in all groups
//	webpubsub.joinLeaveGroup.<group>     webpubsub.sendToGroup.<group>     in this group
//	webpubsub.joinLeaveGroups.<pattern>  webpubsub.sendToGroups.<pattern>  in groups that match
//
// A pattern has these wildcards:
//
//   - `?` matches a single character, but not a dot
//   - `*` matches any number of characters without a dot
//   - `**` matches any number of characters, dots too
//   - `\` makes the next `\`, `*` or `?` a plain character
//
// A pattern has at most five `*`. All patterns together have at most 4096 steps; a step is a run of
// plain characters or a wildcard. Names of a different form are left out: they may be meant for a
// different service.
//
// ParseRoles returns ErrClaimInvalid for more than MaxRoles names, a bad name of a group, a bad
// pattern, or too many steps.
func ParseRoles(roles []string) (*Roles, error) {
	if len(roles) > MaxRoles {
		return nil, fmt.Errorf("%w: %s: %d roles, want at most %d",
			ErrClaimInvalid, claimRole, len(roles), MaxRoles)
	}
	r := &Roles{}
	for i, name := range roles {
		known, err := r.addRole(name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: %s[%d]: %w", ErrClaimInvalid, claimRole, i, err)
		case known:
			r.list = append(r.list, name)
		}
	}
	if steps := r.countSteps(); steps > maxSteps {
		return nil, fmt.Errorf("%w: %s: patterns of %d steps together, want at most %d",
			ErrClaimInvalid, claimRole, steps, maxSteps)
	}
	if len(r.list) == 0 {
		return nil, nil //nolint:nilnil // nil Roles are a valid value: no role
	}
	slices.Sort(r.list)
	r.list = slices.Clip(slices.Compact(r.list))
	for p := range r.rules {
		slices.Sort(r.rules[p].groups)
	}
	return sharedRoles.internRoles(r), nil
}

// ParseKnownRoles is ParseRoles for the result of Names, maybe of a later version: it returns
// ErrClaimInvalid if it would leave out a role.
func ParseKnownRoles(roles []string) (*Roles, error) {
	r, err := ParseRoles(roles)
	if err == nil && !slices.Equal(r.Names(), roles) {
		return nil, fmt.Errorf("%w: %s: unknown role among %q", ErrClaimInvalid, claimRole, roles)
	}
	return r, err
}

// Names returns the names of the roles, sorted and without repetition. ParseRoles returns the same
// Roles for them. The caller must not change the slice.
func (r *Roles) Names() []string {
	if r == nil {
		return nil
	}
	return r.list
}

// addRole adds the permissions of a role. It reports whether the role is known; an error is the
// problem with its group or pattern.
func (r *Roles) addRole(name string) (known bool, err error) {
	rest, ok := strings.CutPrefix(name, rolePrefix)
	if !ok {
		return false, nil
	}
	for p := range r.rules {
		of := &r.rules[p]
		kind, object, hasObject := strings.Cut(rest, ".")
		switch kind {
		case permissionNames[p]:
			if !hasObject {
				of.all = true
				return true, nil
			}
			of.groups = append(of.groups, object)
			return true, names.Check(object)
		case permissionNames[p] + "s":
			if !hasObject {
				return false, nil // the plural form needs a pattern
			}
			if err := names.Check(object); err != nil {
				return true, err
			}
			matcher, problem := parsePattern(object)
			if problem != "" {
				return true, errors.New(problem)
			}
			of.patterns = append(of.patterns, matcher)
			return true, nil
		}
	}
	return false, nil
}

// countSteps returns the number of steps of all patterns together.
func (r *Roles) countSteps() (n int) {
	for p := range r.rules {
		for _, pattern := range r.rules[p].patterns {
			n += len(pattern)
		}
	}
	return n
}

// Allow reports whether the roles give a permission in a group.
func (r *Roles) Allow(p Permission, group string) bool {
	if r == nil {
		return false
	}
	of := &r.rules[p]
	if of.all {
		return true
	}
	if _, found := slices.BinarySearch(of.groups, group); found {
		return true
	}
	return slices.ContainsFunc(of.patterns, func(p pattern) bool { return p.matchesName(group) })
}

// AllowAll reports whether the roles give a permission in all groups.
func (r *Roles) AllowAll(p Permission) bool { return r != nil && r.rules[p].all }

// roleTable has all Roles that are in use, so that equal Roles are the same pointer. Its pointers
// are weak: an entry goes when the garbage collector frees its Roles.
type roleTable struct {
	mu    sync.Mutex
	roles map[string]weak.Pointer[Roles] // by the names of the roles, joined
}

var sharedRoles = roleTable{roles: make(map[string]weak.Pointer[Roles])}

// internRoles returns the Roles of the table that equal r. If there are none, it adds r and returns
// r.
func (t *roleTable) internRoles(r *Roles) *Roles {
	key := strings.Join(r.list, "\n") // no role has a control character
	t.mu.Lock()
	defer t.mu.Unlock()
	if held := t.roles[key].Value(); held != nil {
		return held
	}
	t.roles[key] = weak.Make(r)
	runtime.AddCleanup(r, t.removeFreed, key)
	return r
}

// removeFreed removes the entry of Roles that were freed, unless equal Roles took its place.
func (t *roleTable) removeFreed(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.roles[key].Value() == nil {
		delete(t.roles, key)
	}
}

func (t *roleTable) countRoles() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.roles)
}
