package hub

import "slices"

// Count returns how many connections match.
func (h *Hub) Count(namespace string, t *Target) int { return len(h.listMatching(namespace, t)) }

// Connection returns the present state of a connection, or ErrConnectionNotFound.
func (h *Hub) Connection(namespace, id string) (Info, error) {
	c, err := h.findConnection(namespace, id)
	if err != nil {
		return Info{}, err
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
		page, next = ns.connections.listPage(after, limit)
	} else {
		page, next = pageOf(h.listMatching(namespace, t), after, limit)
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
		if n := ns.groups.countMembers(name); n > 0 {
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
	page, next := ns.groups.sets.listPage(after, limit)
	infos := make([]GroupInfo, 0, len(page))
	for _, s := range page {
		if n := ns.groups.countMembers(s.name); n > 0 {
			infos = append(infos, GroupInfo{s.name, n})
		}
	}
	return infos, next, nil
}
