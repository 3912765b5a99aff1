package hub

// turn is for one link at a time: to carry out what the client has sent. Guarded by Connection.mu.
type turn struct {
	of   Link          // nil: of none
	over chan struct{} // closed when it ends; nil: nobody waits for that
}

// whenOver returns a channel that is closed when the turn ends, or the move that delays it.
func (t *turn) whenOver() <-chan struct{} {
	if t.over == nil {
		t.over = make(chan struct{})
	}
	return t.over
}

// wakeAll has everything that waits for the turn look again.
func (t *turn) wakeAll() {
	if t.over != nil {
		close(t.over)
		t.over = nil
	}
}

// isOfOther reports whether it is the turn of another link.
func (t *turn) isOfOther(l Link) bool { return t.of != nil && t.of != l }

// Turn waits until no link carries out a message of the client, and gives l the turn until EndTurn. So what a client sends is carried out
// one by one, and in order, also when it takes its connection to a new link. It reports false for a link that was replaced: what it
// still reads does not count. The wait is as long as a protocol takes for one message, or as a move.
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

// EndTurn ends what Turn has begun.
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
