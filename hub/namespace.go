package hub

import "strings"

// namespace holds the connections of one application or tenant, by id, user and group. It exists while
// it has a connection.
type namespace struct {
	hub  *Hub
	name string
	refs int // connections, and attaches under way; guarded by Hub.mu
	// named is how many of them have a user; guarded by Hub.mu
	named int

	held held // by messages for its connections

	connections table[*Connection]
	users       index
	groups      index
}

const (
	// reservedShare is the part of MaxConnections that is kept for users who have few connections, a sixteenth. Half of that is kept for
	// namespaces that have few. Without it one user could fill the hub, and all others would be refused.
	reservedShare = 16
	// fewConnections is how many connections a user may have without regard to others: some devices, with some tabs each.
	fewConnections = 8
)

// acquire counts one more connection, of a user and to speak p, into a namespace, which it creates if need be.
func (h *Hub) acquire(name, user string, p Protocol) (*namespace, *dialect, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	ns, ok := h.namespaces[name]
	switch {
	case h.Leaving():
		return nil, nil, ErrShuttingDown
	case h.held >= h.config.MaxConnections, ok && h.exceedsShareLocked(ns, user):
		return nil, nil, ErrTooManyConnections
	}
	if !ok {
		name = strings.Clone(name) // it may be part of a URL, which need not live as long
		ns = &namespace{hub: h, name: name}
		h.namespaces[name] = ns
	}
	ns.refs++
	if user != "" {
		ns.named++
	}
	h.held++
	return ns, h.dialectLocked(p), nil
}

// exceedsShareLocked reports whether the hub is nearly full, and what is left is for others than this user, or this namespace.
func (h *Hub) exceedsShareLocked(ns *namespace, user string) bool {
	reserved := h.config.MaxConnections / reservedShare
	switch left := h.config.MaxConnections - h.held; {
	case left > reserved:
		return false
	case left <= reserved/2 && ns.refs*len(h.namespaces) > h.held:
		return true
	case user == "":
		return false // a user with this connection only
	}
	mine, users := ns.users.len(user), ns.users.sets.len()+ns.refs-ns.named
	return mine >= fewConnections && mine*(users+1) > ns.refs
}

// release gives back what acquire counted.
func (h *Hub) release(ns *namespace, user string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held--
	if user != "" {
		ns.named--
	}
	if ns.refs--; ns.refs == 0 {
		delete(h.namespaces, ns.name)
	}
}

// namespace returns the namespace of that name, or nil.
func (h *Hub) namespace(name string) *namespace {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.namespaces[name]
}
