package hub

// matcher finds the connections that a Target names, each once, with the route by which it matched:
// its connection id, its user, its first group in the order of the request, everyone. The zero
// matcher is ready. resetMatches makes it ready again.
type matcher struct {
	matches []match
	// seen are the excluded connections and, if overlaps is set, those that matched already.
	seen connectionSet
	// overlaps is set if a connection can match twice.
	overlaps bool
}

// match is a connection and the part of the Target that it matched.
type match struct {
	connection *Connection
	kind       RouteKind
	group      int32 // index in Target.Groups, for RouteGroup
}

func (m match) routeOf(t *Target) Route {
	if m.kind == RouteGroup {
		return Route{RouteGroup, t.Groups[m.group]}
	}
	return Route{Kind: m.kind}
}

func (f *matcher) resetMatches() {
	clear(f.matches)
	f.matches = f.matches[:0]
	f.seen.emptySlots()
}

// findMatches fills f.matches. With detail it returns the names that matched no connection.
func (f *matcher) findMatches(ns *namespace, t *Target, detail bool) *Unmatched {
	var un *Unmatched
	if detail {
		un = &Unmatched{}
	}
	if ns == nil {
		if detail {
			*un = Unmatched{t.Connections, t.Users, t.Groups}
		}
		return un
	}
	if t.Only != "" {
		f.matchOnly(ns, t, un)
		return un
	}
	names := len(t.Connections) + len(t.Users) + len(t.Groups)
	f.overlaps = names > 1 || t.Everyone && names > 0
	f.excludeTarget(ns, &t.Except)
	f.matchTarget(ns, t, un)
	return un
}

// matchTarget adds the connections that each part of t names. un gets the names that match no
// connection, and may be nil.
func (f *matcher) matchTarget(ns *namespace, t *Target, un *Unmatched) {
	for _, id := range t.Connections {
		if c, ok := ns.connections.getValue(id); ok {
			f.addMatch(match{connection: c, kind: RouteConnection})
		} else if un != nil {
			un.Connections = append(un.Connections, id)
		}
	}
	asUser := func(c *Connection) { f.addMatch(match{connection: c, kind: RouteUser}) }
	for _, user := range t.Users {
		if !ns.users.eachMember(user, asUser) && un != nil {
			un.Users = append(un.Users, user)
		}
	}
	for i, group := range t.Groups {
		asMember := func(c *Connection) { f.addMatch(match{c, RouteGroup, int32(i)}) }
		if !ns.groups.eachMember(group, asMember) && un != nil {
			un.Groups = append(un.Groups, group)
		}
	}
	asAnyone := func(c *Connection) { f.addMatch(match{connection: c, kind: RouteEveryone}) }
	if t.Everyone {
		ns.connections.eachValue(asAnyone)
	}
}

// matchOnly adds the connection t.Only, if the rest of t matches it, too.
func (f *matcher) matchOnly(ns *namespace, t *Target, un *Unmatched) {
	s := &State{} // no name of t is its name
	if c, ok := ns.connections.getValue(string(t.Only)); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.state.isGone() {
			s = &c.state
			if kind, group := t.routeTo(s); kind != 0 {
				f.matches = append(f.matches, match{c, kind, int32(group)})
			}
		}
	}
	if un != nil {
		*un = t.listUnmatched(s)
	}
}

func (f *matcher) excludeTarget(ns *namespace, e *Exclusion) {
	skip := func(c *Connection) { f.seen.addConnection(c) }
	for _, id := range e.Connections {
		if c, ok := ns.connections.getValue(id); ok {
			skip(c)
		}
	}
	for _, user := range e.Users {
		ns.users.eachMember(user, skip)
	}
	for _, group := range e.Groups {
		ns.groups.eachMember(group, skip)
	}
}

func (f *matcher) addMatch(m match) {
	switch {
	case f.overlaps:
		if !f.seen.addConnection(m.connection) {
			return
		}
	case f.seen.hasConnection(m.connection):
		return
	}
	f.matches = append(f.matches, m)
}

// listMatching returns the connections that match t now.
func (h *Hub) listMatching(namespace string, t *Target) []*Connection {
	var f matcher
	f.findMatches(h.findNamespace(namespace), t, false)
	all := make([]*Connection, len(f.matches))
	for i, m := range f.matches {
		all[i] = m.connection
	}
	return all
}
