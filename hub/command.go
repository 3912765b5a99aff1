package hub

// Did reports whether the client's command with this id has succeeded. If ids rise in steps of 1,
// the connection remembers all that succeeded. Otherwise it remembers the 128 highest ranges.
func (c *Connection) Did(command uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Done.Has(command)
}

// Done records that the client's command with this id has succeeded.
func (c *Connection) Done(command uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.state.isGone() {
		c.applyLocked(Op{Kind: OpDone, Sequence: command})
	}
}
