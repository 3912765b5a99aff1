package hub

import "strings"

// namespace holds the connections of one application or tenant, by id, user and group. It exists while
// it has a connection.
type namespace struct {
	hub  *Hub
	name string
	refs int // connections, and attaches under way; guarded by Hub.mu

	held held // by messages for its connections

	connections table[*Connection]
	users       index
	groups      index
}

// acquire counts one more connection, which is to speak p, into a namespace, which it creates if need be.
func (h *Hub) acquire(name string, p Protocol) (*namespace, *dialect, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.Leaving():
		return nil, nil, ErrShuttingDown
	case h.held >= h.config.MaxConnections:
		return nil, nil, ErrTooManyConnections
	}
	ns, ok := h.namespaces[name]
	if !ok {
		name = strings.Clone(name) // it may be part of a URL, which need not live as long
		ns = &namespace{hub: h, name: name}
		h.namespaces[name] = ns
	}
	ns.refs++
	h.held++
	return ns, h.dialectLocked(p), nil
}

// release gives back what acquire counted.
func (h *Hub) release(ns *namespace) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held--
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
