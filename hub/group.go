package hub

import (
	"context"
	"errors"
	"slices"

	"github.com/connhub/connhub/internal/names"
)

// Joined is the result of Join. Each matched connection counts once for each distinct group: in
// Added, Already, Refused or Closed.
type Joined struct {
	// Matched counts the connections that matched the target, Added new memberships, and Already
	// memberships that were there before.
	Matched, Added, Already int
	// Refused counts connections that are in MaxGroups groups already.
	Refused int
	// Closed counts connections that closed meanwhile.
	Closed int

	// Refusals are those counted in Refused and Closed, MaxRefusals at most.
	Refusals []Refusal
}

// Join makes the connections that match members of the groups. When it returns, the changes are in
// force at every hub. After the error of ctx they may not be in force, and some may be missing.
func (h *Hub) Join(
	ctx context.Context, namespace string, t *Target, groups []string,
) (Joined, error) {
	groups = names.Distinct(groups)
	joined, err := h.joinAll(ctx, namespace, t, groups)
	if err != nil || joined.Added+joined.Already == 0 {
		return joined, err
	}
	return joined, h.awaitInForce(ctx, groupKeys(namespace, groups))
}

// BeginJoin is Join without its wait, for callers that wait for many. then calls done once, with
// the error that Join would return. It works as Interest.ThenInForce. It is nil when there is
// nothing to wait for.
func (h *Hub) BeginJoin(
	ctx context.Context, namespace string, t *Target, groups []string,
) (_ Joined, then func(done func(error)) (forget func()), _ error) {
	groups = names.Distinct(groups)
	joined, err := h.joinAll(ctx, namespace, t, groups)
	if err != nil || joined.Added+joined.Already == 0 {
		return joined, nil, err
	}
	return joined, func(done func(error)) (forget func()) {
		return h.interest.ThenInForce(groupKeys(namespace, groups), done)
	}, nil
}

// joinAll makes the memberships, and does not wait.
func (h *Hub) joinAll(ctx context.Context, ns string, t *Target, groups []string) (Joined, error) {
	matched := h.listMatching(ns, t)
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
				// A concurrent call may have made it, and may still wait for it.
				r.Already++
			}
		}
	}
	return r, nil
}

// Left is the result of Leave.
type Left struct {
	// Matched counts the connections that matched the target, Removed the memberships that ended.
	Matched, Removed int
}

// Leave takes the connections that match out of the groups; with all, out of every group. When it
// returns, the changes are in force.
func (h *Hub) Leave(
	ctx context.Context, namespace string, t *Target, groups []string, all bool,
) (Left, error) {
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

// joinGroup makes the connection a member of a group. It returns false if it was a member already.
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
	group = c.namespace.addMember(c, group)
	c.hub().interest.Add(Key{RouteGroup, c.namespace.name, group})
	c.applyLocked(Op{Kind: OpJoin, Group: group})
}

// leaveGroup ends the membership in a group. It returns false if there was none.
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

// Join makes the connection a member of a group. When it returns, the membership is in force at
// every hub (500 ms at most). It does not check permissions. It returns ErrClosed, ErrGroupLimit,
// or the error of ctx.
func (c *Connection) Join(ctx context.Context, group string) error {
	if _, err := c.joinGroup(group); err != nil {
		return err
	}
	return c.hub().awaitInForce(ctx, groupKeys(c.state.Namespace, []string{group}))
}

// Leave ends a membership, if there is one.
func (c *Connection) Leave(group string) { c.leaveGroup(group) }
