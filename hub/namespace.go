package hub

import "strings"

// namespace holds the connections of one application or tenant, by id, user and group. It exists
// while it has a connection.
type namespace struct {
	hub  *Hub
	name string
	// refs counts connections, and attaches under way. Guarded by Hub.mu.
	refs int
	// unnamed counts, by Payer, the connections in refs that have no user: each Payer has a share.
	// Guarded by Hub.mu.
	unnamed map[string]int

	// held is the budget of the messages for its connections.
	held held

	connections table[*Connection]
	users       index
	groups      index
}

// enlistLocked puts a connection into the tables, where sends find it: by its id, its user and its
// groups. The references to its keys are another matter: it has them before it is in the tables if
// it comes from a different hub. Connection.mu must be held.
func (ns *namespace) enlistLocked(c *Connection) {
	ns.connections.putValue(c)
	if user := c.state.User; user != "" {
		c.userEntry = ns.users.addMembership(user, c)
	}
	for i, g := range c.state.Groups {
		c.state.Groups[i] = ns.addMember(c, g)
	}
}

// addMember puts a connection into a group. It returns the group's name as all members share it.
func (ns *namespace) addMember(c *Connection, group string) string {
	m := ns.groups.addMembership(group, c)
	c.memberships = append(c.memberships, m)
	return m.set.name
}

// delistLocked undoes enlistLocked.
func (ns *namespace) delistLocked(c *Connection) {
	for _, m := range c.memberships {
		ns.groups.removeMembership(m)
	}
	c.memberships = nil
	if c.userEntry != nil {
		ns.users.removeMembership(c.userEntry)
		c.userEntry = nil
	}
	ns.connections.removeValue(string(c.state.ID))
}

const (
	// reservedShare is the part of MaxConnections, a sixteenth, that is reserved for users with few
	// connections. Half of that is reserved for namespaces with few. Without it one user could fill
	// the hub, and all the rest would be refused.
	reservedShare = 16
	// fewConnections is how many connections a user may have in a nearly full hub whatever the
	// average: some devices, with some tabs each.
	fewConnections = 8
)

// reserveConnection counts one more connection, described by a, in its namespace. It creates the
// namespace if there is none.
func (h *Hub) reserveConnection(a *Admission) (*namespace, *dialect, error) {
	name := a.Namespace
	h.mu.Lock()
	defer h.mu.Unlock()
	ns, ok := h.namespaces[name]
	switch {
	case h.Leaving():
		return nil, nil, ErrShuttingDown
	case h.held >= h.config.MaxConnections, ok && h.exceedsShareLocked(ns, a):
		return nil, nil, ErrTooManyConnections
	}
	if !ok {
		// The name may be part of a URL, which need not live as long.
		name = strings.Clone(name)
		ns = &namespace{hub: h, name: name}
		h.namespaces[name] = ns
	}
	ns.refs++
	if a.User == "" {
		ns.countUnnamedLocked(payerOf("", a.RemoteAddress), +1)
	}
	h.held++
	return ns, h.dialectLocked(a.Protocol), nil
}

// exceedsShareLocked reports whether the hub is nearly full, and the rest is reserved for different
// users, or different namespaces. Clients without a user count as one user at each address.
func (h *Hub) exceedsShareLocked(ns *namespace, a *Admission) bool {
	reserved := h.config.MaxConnections / reservedShare
	switch left := h.config.MaxConnections - h.held; {
	case left > reserved:
		return false
	case left <= reserved/2 && ns.refs*len(h.namespaces) > h.held:
		return true
	}
	mine, users := 0, ns.users.sets.len()+len(ns.unnamed)
	if a.User != "" {
		mine = ns.users.countMembers(a.User)
	} else {
		mine = ns.unnamed[payerOf("", a.RemoteAddress)]
	}
	return mine >= fewConnections && mine*(users+1) > ns.refs
}

// countUnnamedLocked counts connections without a user. Hub.mu must be held.
func (ns *namespace) countUnnamedLocked(payer string, more int) {
	if ns.unnamed == nil {
		ns.unnamed = make(map[string]int)
	}
	if ns.unnamed[payer] += more; ns.unnamed[payer] == 0 {
		delete(ns.unnamed, payer)
	}
}

// releaseConnection undoes reserveConnection.
func (h *Hub) releaseConnection(ns *namespace, who *Identity) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held--
	if who.User == "" {
		ns.countUnnamedLocked(who.Payer(), -1)
	}
	if ns.refs--; ns.refs == 0 {
		delete(h.namespaces, ns.name)
	}
}

// findNamespace returns the namespace of that name, or nil.
func (h *Hub) findNamespace(name string) *namespace {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.namespaces[name]
}
