package hub

import (
	"context"
	"errors"
	"slices"
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
	joined, inForce, err := h.BeginJoin(ctx, namespace, t, groups)
	if err != nil {
		return joined, err
	}
	return joined, inForce(ctx)
}

// BeginJoin is Join without its wait, for callers that have something else to do in order: inForce waits, for 500 ms at
// most.
func (h *Hub) BeginJoin(ctx context.Context, namespace string, t *Target, groups []string) (_ Joined, inForce func(context.Context) error, _ error) {
	groups = distinct(groups)
	matched := h.matching(namespace, t)
	r := Joined{Matched: len(matched)}
	for _, c := range matched {
		if err := ctx.Err(); err != nil {
			return r, nil, err
		}
		for _, g := range groups {
			switch added, err := c.join(g); {
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
	return r, func(ctx context.Context) error {
		if r.Added+r.Already == 0 {
			return nil
		}
		return h.interest.InForce(ctx, groupKeys(namespace, groups))
	}, nil
}

// Left tells what Leave changed.
type Left struct {
	Matched int
	Removed int
}

// Leave takes the connections that match out of the groups, or with all out of every group. Its changes are
// in force when it returns.
func (h *Hub) Leave(ctx context.Context, namespace string, t *Target, groups []string, all bool) (Left, error) {
	matched := h.matching(namespace, t)
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
			if c.leave(g) {
				r.Removed++
			}
		}
	}
	return r, nil
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
	matched := h.matching(namespace, t)
	r := Permitted{Matched: len(matched)}
	g := &granting{grants, make(map[*Grants]*Grants)}
	for _, c := range matched {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		switch err := c.grant(g); {
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
	all := h.matching(namespace, t)
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

// Count returns how many connections match.
func (h *Hub) Count(namespace string, t *Target) int { return len(h.matching(namespace, t)) }

// Closed tells what CloseConnections did.
type Closed struct {
	Matched int
	Closed  int // the others were closed already
}

// CloseConnections closes the connections that match. When more than max match, and max is not 0, it closes
// none and returns ErrTooManyMatched.
func (h *Hub) CloseConnections(ctx context.Context, namespace string, t *Target, how Close, max int) (Closed, error) {
	matched := h.matching(namespace, t)
	r := Closed{Matched: len(matched)}
	if max > 0 && len(matched) > max {
		return r, ErrTooManyMatched
	}
	for _, c := range matched {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		if c.Close(how) {
			r.Closed++
		}
	}
	return r, nil
}

// Connection tells how one connection is. Error: ErrConnectionNotFound.
func (h *Hub) Connection(namespace, id string) (Info, error) {
	c, err := h.connection(namespace, id)
	if err != nil {
		return Info{}, err
	}
	info := c.Info()
	if info.Phase == PhaseClosed {
		return Info{}, ErrConnectionNotFound
	}
	return info, nil
}

// Connections returns up to limit connections that match, behind a cursor, and the cursor for the next page;
// the zero Cursor starts, and as a result says that there is no more. What matches all through is listed
// exactly once.
func (h *Hub) Connections(namespace string, t *Target, after Cursor, limit int) ([]Info, Cursor, error) {
	var page []*Connection
	var next Cursor
	if ns := h.namespace(namespace); t.Everyone && t.Except.empty() && ns != nil {
		page, next = ns.connections.page(after, limit)
	} else {
		page, next = pageOf(h.matching(namespace, t), after, limit)
	}
	infos := make([]Info, 0, len(page))
	for _, c := range page {
		if info := c.Info(); info.Phase != PhaseClosed {
			infos = append(infos, info)
		}
	}
	return infos, next, nil
}

// pageOf is table.page for connections that were found in another way. It keeps the limit first ones sorted
// while it goes through them all once: most are refused by one comparison.
func pageOf(found []*Connection, after Cursor, limit int) ([]*Connection, Cursor) {
	type entry struct {
		at         Cursor
		connection *Connection
	}
	var page []entry
	more := false
	for _, c := range found {
		at := CursorOf(string(c.ID()))
		if at.Compare(after) <= 0 {
			continue
		}
		if len(page) == limit {
			more = true
			if at.Compare(page[limit-1].at) > 0 {
				continue
			}
			page = page[:limit-1]
		}
		i, _ := slices.BinarySearchFunc(page, at, func(e entry, at Cursor) int { return e.at.Compare(at) })
		page = slices.Insert(page, i, entry{at, c})
	}
	all := make([]*Connection, len(page))
	for i, e := range page {
		all[i] = e.connection
	}
	if !more {
		return all, Cursor{}
	}
	return all, page[len(page)-1].at
}

// GroupInfo is a group at one moment.
type GroupInfo struct {
	Name    string
	Members int
}

// Group tells how one group is. Error: ErrGroupNotFound.
func (h *Hub) Group(namespace, name string) (GroupInfo, error) {
	if ns := h.namespace(namespace); ns != nil {
		if n := ns.groups.len(name); n > 0 {
			return GroupInfo{name, n}, nil
		}
	}
	return GroupInfo{}, ErrGroupNotFound
}

// Groups returns up to limit groups behind a cursor, and the cursor for the next page, as Connections does.
func (h *Hub) Groups(namespace string, after Cursor, limit int) ([]GroupInfo, Cursor, error) {
	ns := h.namespace(namespace)
	if ns == nil {
		return nil, Cursor{}, nil
	}
	page, next := ns.groups.sets.page(after, limit)
	infos := make([]GroupInfo, 0, len(page))
	for _, s := range page {
		if n := ns.groups.len(s.name); n > 0 {
			infos = append(infos, GroupInfo{s.name, n})
		}
	}
	return infos, next, nil
}
