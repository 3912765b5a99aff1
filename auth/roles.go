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

// Permission is something that a client may be allowed to do with groups. Without any it may send events to backends, and
// receive.
type Permission uint8

const (
	// JoinLeaveGroup: join and leave groups.
	JoinLeaveGroup Permission = iota
	// SendToGroup: send messages to groups.
	SendToGroup

	permissionEnd
)

var permissionNames = [permissionEnd]string{JoinLeaveGroup: "joinLeaveGroup", SendToGroup: "sendToGroup"}

// String is the permission's name in Web PubSub.
func (p Permission) String() string {
	if p >= permissionEnd {
		return fmt.Sprintf("permission_%d", uint8(p))
	}
	return permissionNames[p]
}

// rolePrefix begins the name of every role that is known.
const rolePrefix = "webpubsub."

// Roles are the roles of a token that mean something here. They never change, and equal ones are one pointer: a million
// connections with the same roles share them. nil: none.
type Roles struct {
	list  []string // sorted, each once
	rules [permissionEnd]rule
}

// rule is what roles say of one permission.
type rule struct {
	all      bool
	groups   []string // sorted
	patterns []pattern
}

// Everything returns the roles that allow everything.
func Everything() *Roles {
	r, err := ParseRoles([]string{rolePrefix + JoinLeaveGroup.String(), rolePrefix + SendToGroup.String()})
	if err != nil {
		panic(err) // a test holds that they parse
	}
	return r
}

// ParseRoles returns the roles of these names:
//
//	webpubsub.joinLeaveGroup             webpubsub.sendToGroup             for every group
//	webpubsub.joinLeaveGroup.<group>     webpubsub.sendToGroup.<group>     for this one
//	webpubsub.joinLeaveGroups.<pattern>  webpubsub.sendToGroups.<pattern>  for those that match
//
// In a pattern `?` is one character but a dot, `*` any number of these, `**` any number of any, `\` takes the meaning from
// the next; at most five `*`. Names of another form, which may be meant for somebody else, are left out.
// All patterns together have at most 4096 steps: runs of plain characters, and each `?`, `*` and `**`.
// Errors: ErrClaimInvalid, for more than MaxRoles, a bad name of a group, a bad pattern, and too many steps.
func ParseRoles(roles []string) (*Roles, error) {
	if len(roles) > MaxRoles {
		return nil, fmt.Errorf("%w: %s: %d roles, want at most %d", ErrClaimInvalid, claimRole, len(roles), MaxRoles)
	}
	r := &Roles{}
	for i, name := range roles {
		known, err := r.add(name)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%w: %s[%d]: %w", ErrClaimInvalid, claimRole, i, err)
		case known:
			r.list = append(r.list, name)
		}
	}
	if steps := r.steps(); steps > maxSteps {
		return nil, fmt.Errorf("%w: %s: patterns of %d steps together, want at most %d", ErrClaimInvalid, claimRole, steps, maxSteps)
	}
	if len(r.list) == 0 {
		return nil, nil //nolint:nilnil // no roles are none, also of a million connections
	}
	slices.Sort(r.list)
	r.list = slices.Clip(slices.Compact(r.list))
	for p := range r.rules {
		slices.Sort(r.rules[p].groups)
	}
	return shared.intern(r), nil
}

// Names returns the names of the roles, sorted, each once: ParseRoles makes the same roles of them. The slice is not the
// caller's to change.
func (r *Roles) Names() []string {
	if r == nil {
		return nil
	}
	return r.list
}

// add takes one role in. It reports whether the role is known, and what is wrong with it.
func (r *Roles) add(name string) (known bool, err error) {
	rest, ok := strings.CutPrefix(name, rolePrefix)
	if !ok {
		return false, nil
	}
	for p := range r.rules {
		of := &r.rules[p]
		kind, object, one := strings.Cut(rest, ".")
		switch kind {
		case permissionNames[p]:
			if !one {
				of.all = true
				return true, nil
			}
			of.groups = append(of.groups, object)
			return true, names.Check(object)
		case permissionNames[p] + "s":
			if !one {
				return false, nil // no pattern: not a form that there is
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

// steps returns how many steps the patterns have together.
func (r *Roles) steps() (n int) {
	for p := range r.rules {
		for _, pattern := range r.rules[p].patterns {
			n += len(pattern)
		}
	}
	return n
}

// Allow tells whether the roles allow something with a group.
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
	return slices.ContainsFunc(of.patterns, func(p pattern) bool { return p.matches(group) })
}

// AllowAll tells whether the roles allow something with every group.
func (r *Roles) AllowAll(p Permission) bool { return r != nil && r.rules[p].all }

// roleTable has those roles that somebody holds.
type roleTable struct {
	mu    sync.Mutex
	roles map[string]weak.Pointer[Roles] // by key
}

var shared = roleTable{roles: make(map[string]weak.Pointer[Roles])}

// intern returns the roles that equal r and are held by somebody, or else r, which is from then on.
func (t *roleTable) intern(r *Roles) *Roles {
	key := strings.Join(r.list, "\n") // no role has a control character
	t.mu.Lock()
	defer t.mu.Unlock()
	if held := t.roles[key].Value(); held != nil {
		return held
	}
	t.roles[key] = weak.Make(r)
	runtime.AddCleanup(r, t.forget, key)
	return r
}

// forget takes out roles that nobody holds any more, unless equal ones have come meanwhile.
func (t *roleTable) forget(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.roles[key].Value() == nil {
		delete(t.roles, key)
	}
}

func (t *roleTable) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.roles)
}
