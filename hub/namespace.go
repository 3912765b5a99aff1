package hub

// namespace holds the connections of one application or tenant, by id, user and group. It exists while
// it has a connection.
type namespace struct {
	name string
	refs int // connections, and attaches under way; guarded by Hub.mu

	connections table[*Connection]
	users       index
	groups      index
}

// acquire counts one more connection into a namespace, which it creates if need be.
func (h *Hub) acquire(name string) (*namespace, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.closing:
		return nil, ErrShuttingDown
	case h.held >= h.config.MaxConnections:
		return nil, ErrTooManyConnections
	}
	ns, ok := h.namespaces[name]
	if !ok {
		ns = &namespace{name: name}
		h.namespaces[name] = ns
	}
	ns.refs++
	h.held++
	return ns, nil
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
