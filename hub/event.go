package hub

// ClientEvent is a client's message for the backends.
type ClientEvent struct {
	// Name is the event's name.
	Name string
	// Kind is that of Payload.
	Kind PayloadKind
	// Payload must not change any more. The caller has checked it as Message.Payload.
	Payload []byte
}

// Emit hands an event of the client to the observers, which bring it to backends. It reports
// whether the event is queued for a backend: see Observer.Emitted. Error: ErrClosed.
func (c *Connection) Emit(e *ClientEvent) (queued bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.isGone() {
		return false, ErrClosed
	}
	return c.applyLocked(Op{Kind: OpEvent, Event: e}), nil
}
