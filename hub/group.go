package hub

import (
	"context"
	"errors"
	"slices"

	"github.com/connhub/connhub/internal/names"
)

// Joined tells what Join changed: for each matched connection and each distinct group one of Added, Already,
// Refused and Closed.
type Joined struct {
	Matched int
	Added   int
	Already int
	Refused int // the connection is in MaxGroups groups
	Closed  int // the connection closed meanwhile

	Refusals []Refusal // those counted in Refused and Closed, MaxRefusals at most
}

// Join makes the connections that match members of the groups. Its changes are in force at every hub when it
// returns; with the error of ctx they may not be, and some may not have been made.
func (h *Hub) Join(ctx context.Context, namespace string, t *Target, groups []string) (Joined, error) {
	groups = names.Distinct(groups)
	joined, err := h.joinMatching(ctx, namespace, t, groups)
	if err != nil || joined.Added+joined.Already == 0 {
		return joined, err
	}
	return joined, h.awaitInForce(ctx, groupKeys(namespace, groups))
}

// BeginJoin is Join without its wait, for callers that wait for many: then has done called once, with what Join would
// return, and is as Interest.ThenInForce. It is nil when there is nothing to wait for.
func (h *Hub) BeginJoin(ctx context.Context, namespace string, t *Target, groups []string) (_ Joined, then func(done func(error)) (forget func()), _ error) {
	groups = names.Distinct(groups)
	joined, err := h.joinMatching(ctx, namespace, t, groups)
	if err != nil || joined.Added+joined.Already == 0 {
		return joined, nil, err
	}
	return joined, func(done func(error)) (forget func()) {
		return h.interest.ThenInForce(groupKeys(namespace, groups), done)
	}, nil
}

// join makes the members.
func (h *Hub) joinMatching(ctx context.Context, namespace string, t *Target, groups []string) (Joined, error) {
	matched := h.listMatching(namespace, t)
	r := Joined{Matched: len(matched)}
	for _, c := range matched {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		for _, g := range groups {
			switch added, err := c.joinGroup(g); {
			case errors.Is(err, ErrGroupLimit):
				r.Refused++
				r.Refusals = appendRefusal(r.Refusals, Refusal{c.ID(), g, ErrGroupLimit})
			case err != nil:
				r.Closed++
				r.Refusals = appendRefusal(r.Refusals, Refusal{c.ID(), g, ErrClosed})
			case added:
				r.Added++
			default:
				r.Already++ // by a call, perhaps, that waits itself
			}
		}
	}
	return r, nil
}

// Left tells what Leave changed.
type Left struct {
	Matched int
	Removed int
}

// Leave takes the connections that match out of the groups, or with all out of every group. Its changes are
// in force when it returns.
func (h *Hub) Leave(ctx context.Context, namespace string, t *Target, groups []string, all bool) (Left, error) {
	matched := h.listMatching(namespace, t)
	r := Left{Matched: len(matched)}
	for _, c := range matched {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		from := groups
		if all {
			from = c.Info().Groups
		}
		for _, g := range from {
			if c.leaveGroup(g) {
				r.Removed++
			}
		}
	}
	return r, nil
}

// join makes the connection a member of a group; false if it was one.
func (c *Connection) joinGroup(group string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.state.isGone():
		return false, ErrClosed
	case slices.Contains(c.state.Groups, group):
		return false, nil
	case len(c.state.Groups) >= MaxGroups:
		return false, ErrGroupLimit
	}
	c.joinGroupLocked(group)
	return true, nil
}

func (c *Connection) joinGroupLocked(group string) {
	c.applyLocked(Op{Kind: OpJoin, Group: c.namespace.addMember(c, group)})
}

// leave ends the membership in a group; false if there was none.
func (c *Connection) leaveGroup(group string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.state.Groups, group)
	if i < 0 || c.state.isGone() {
		return false
	}
	c.applyLocked(Op{Kind: OpLeave, Group: group})
	c.namespace.groups.removeMembership(c.memberships[i])
	c.memberships = slices.Delete(c.memberships, i, i+1)
	c.hub().interest.Remove(Key{RouteGroup, c.state.Namespace, group})
	return true
}

// Join makes the connection a member of a group. When it returns, that is in force at every hub (500 ms at most). It does not ask whether
// the client may. Errors: ErrClosed, ErrGroupLimit, that of ctx.
func (c *Connection) Join(ctx context.Context, group string) error {
	if _, err := c.joinGroup(group); err != nil {
		return err
	}
	return c.hub().awaitInForce(ctx, groupKeys(c.state.Namespace, []string{group}))
}

// Leave ends a membership, if there is one.
func (c *Connection) Leave(group string) { c.leaveGroup(group) }
