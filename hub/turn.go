package hub

// turn serializes message processing between an old and a new link of a connection. Guarded by
// Connection.mu.
type turn struct {
	// of is the link that has the turn, or nil.
	of Link
	// over is closed when the turn ends; nil: no goroutine waits for that.
	over chan struct{}
}

// whenOver returns a channel that is closed when the turn ends, or the move that delays it.
func (t *turn) whenOver() <-chan struct{} {
	if t.over == nil {
		t.over = make(chan struct{})
	}
	return t.over
}

// wakeAll has all goroutines that wait for the turn look again.
func (t *turn) wakeAll() {
	if t.over != nil {
		close(t.over)
		t.over = nil
	}
}

// isOfOther reports whether a link different from l has the turn.
func (t *turn) isOfOther(l Link) bool { return t.of != nil && t.of != l }

// Turn waits until no link handles a message of the client, and gives l the turn until EndTurn. So
// the client's messages are handled in order and never together, also when the client takes its
// connection to a new link. It reports false for a link that was replaced: the messages that it
// still reads do not count. The wait is as long as a protocol takes for one message, or as a move.
func (c *Connection) Turn(l Link) bool {
	if c.dialect.numbered == nil {
		return true // it has one link all its life
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.numbering.turn
	for c.link == l && (t.of != nil || c.state.isFrozen()) {
		over := t.whenOver()
		c.mu.Unlock()
		<-over
		c.mu.Lock()
	}
	if c.link != l {
		return false
	}
	t.of = l
	return true
}

// EndTurn ends a turn that Turn has begun.
func (c *Connection) EndTurn() {
	if c.dialect.numbered == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	t := &c.numbering.turn
	t.of = nil
	t.wakeAll()
}
