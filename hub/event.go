package hub

// Event is what a client has for the backends.
type Event struct {
	Name    string
	Kind    PayloadKind
	Payload []byte // not to be changed; checked as Message.Payload
}

// Emit hands an event of the client to the observers, which bring it to backends. It reports
// whether the event is queued for a backend: see Observer.Emitted. Error: ErrClosed.
func (c *Connection) Emit(e *Event) (queued bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.isGone() {
		return false, ErrClosed
	}
	return c.applyLocked(Op{Kind: OpEvent, Event: e}), nil
}
