package hub

import "slices"

// Reads go on to show a connection that is sealed (Moves.Seal), with its state as of then, until
// Moves.Release. By then the new hub shows it, so it is never missing. Nothing else finds it. From
// Moves.Commit to Moves.Release both hubs show it.

// Count returns how many connections match.
func (h *Hub) Count(namespace string, t *Target) int { return len(h.listReadable(namespace, t)) }

// listReadable returns the connections that a read with the target t shows, each once.
func (h *Hub) listReadable(namespace string, t *Target) []*Connection {
	moving := h.moves.listDepartures(namespace)
	found := h.listMatching(namespace, t)
	return h.addDepartures(found, moving, namespace, t)
}

// addDepartures adds to the connections that were found in the tables those that move away, and
// match t. moving are those that moved before the search: some of them may be back in the tables.
func (h *Hub) addDepartures(
	found, moving []*Connection, namespace string, t *Target,
) []*Connection {
	moving = append(moving, h.moves.listDepartures(namespace)...) // those sealed meanwhile
	if len(moving) == 0 {
		return found
	}
	missing := make(map[*Connection]bool, len(moving))
	for _, c := range moving {
		missing[c] = true
	}
	for _, c := range found {
		delete(missing, c)
	}
	for c := range missing {
		if t.matchesNow(c) {
			found = append(found, c)
		}
	}
	return found
}

// Connection returns the present state of a connection, or ErrConnectionNotFound.
func (h *Hub) Connection(namespace, id string) (Info, error) {
	c := h.moves.findDeparture(ConnectionID(id))
	if c == nil || c.namespace.name != namespace {
		var err error
		if c, err = h.findConnection(namespace, id); err != nil {
			return Info{}, err
		}
	}
	info := c.Info()
	if info.Phase == PhaseClosed {
		return Info{}, ErrConnectionNotFound
	}
	return info, nil
}

// Connections returns up to limit connections that match, behind a cursor, and the cursor for the
// next page. The zero Cursor starts the listing; as a result it says that there is no more. A
// connection that matches all through is listed exactly once.
func (h *Hub) Connections(
	namespace string, t *Target, after Cursor, limit int,
) ([]Info, Cursor, error) {
	var page []*Connection
	var next Cursor
	ns, all := h.findNamespace(namespace), t.Everyone && t.Except.isEmpty() && t.Only == ""
	if all && ns != nil {
		moving := h.moves.listDepartures(namespace)
		page, next = ns.connections.listPage(after, limit)
		listed := h.addDepartures(page, moving, namespace, t)
		if len(listed) > len(page) {
			var last Cursor
			if page, last = pageOf(listed, after, limit); last != (Cursor{}) {
				next = last
			}
		}
	} else {
		page, next = pageOf(h.listReadable(namespace, t), after, limit)
	}
	infos := make([]Info, 0, len(page))
	for _, c := range page {
		if info := c.Info(); info.Phase != PhaseClosed {
			infos = append(infos, info)
		}
	}
	return infos, next, nil
}

// pageOf is table.listPage for connections that were found in a different way. It goes through them
// once, and keeps the first limit ones sorted: most are refused by a single comparison.
func pageOf(found []*Connection, after Cursor, limit int) ([]*Connection, Cursor) {
	type entry struct {
		at         Cursor
		connection *Connection
	}
	compare := func(e entry, at Cursor) int { return e.at.Compare(at) }
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
		i, _ := slices.BinarySearchFunc(page, at, compare)
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
	// Name is the group's name.
	Name string
	// Members counts the connections in the group at this hub.
	Members int
}

// Group returns a group's present state, or ErrGroupNotFound.
func (h *Hub) Group(namespace, name string) (GroupInfo, error) {
	if ns := h.findNamespace(namespace); ns != nil {
		if n := h.countMembers(ns, name, h.moves.listGroups(namespace)); n > 0 {
			return GroupInfo{name, n}, nil
		}
	}
	return GroupInfo{}, ErrGroupNotFound
}

// Groups returns up to limit groups behind a cursor, and the cursor for the next page, as
// Connections does.
func (h *Hub) Groups(namespace string, after Cursor, limit int) ([]GroupInfo, Cursor, error) {
	ns := h.findNamespace(namespace)
	if ns == nil {
		return nil, Cursor{}, nil
	}
	moving := h.moves.listGroups(namespace)
	page, next := ns.groups.sets.listPage(after, limit)
	names := make([]string, 0, len(page))
	for _, s := range page {
		names = append(names, s.name)
	}
	if len(moving) > 0 {
		names, next = mergeGroups(names, moving, after, next, limit)
	}
	infos := make([]GroupInfo, 0, len(names))
	for _, name := range names {
		if n := h.countMembers(ns, name, moving); n > 0 {
			infos = append(infos, GroupInfo{name, n})
		}
	}
	return infos, next, nil
}

// mergeGroups adds the groups of moving connections to a page that ends at next: a group may have
// no member besides.
func mergeGroups(
	page []string, moving map[string]bool, after, next Cursor, limit int,
) ([]string, Cursor) {
	for name := range moving {
		at := CursorOf(name)
		if at.Compare(after) > 0 && (next == Cursor{} || at.Compare(next) < 0) {
			page = append(page, name)
		}
	}
	slices.SortFunc(page, func(a, b string) int { return CursorOf(a).Compare(CursorOf(b)) })
	if page = slices.Compact(page); len(page) > limit {
		page = page[:limit]
		next = CursorOf(page[limit-1])
	}
	return page, next
}

// countMembers returns how many members of a group a read shows. moving are the groups of
// connections that move away.
func (h *Hub) countMembers(ns *namespace, group string, moving map[string]bool) int {
	if moving[group] {
		return h.Count(ns.name, &Target{Groups: []string{group}})
	}
	return ns.groups.countMembers(group)
}
