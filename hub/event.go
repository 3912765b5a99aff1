package hub

// Event is what a client has for the backends.
type Event struct {
	Name    string
	Kind    PayloadKind
	Payload []byte // not to be changed; checked as Message.Payload
}

// Emit hands an event of the client to the sink, which is to bring it to a backend, and reports whether the event is queued for one at least:
// see EventSink. Error: ErrClosed.
func (c *Connection) Emit(e *Event) (queued bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state.Phase == PhaseClosed {
		return false, ErrClosed
	}
	op := Op{Kind: OpEvent, Event: e}
	if sink, ok := c.hub().config.Sink.(EventSink); ok && c.hub().sees(OpEvent) {
		c.state.apply(&op)
		return sink.Emitted(c, op), nil
	}
	c.applyLocked(op)
	return false, nil
}
