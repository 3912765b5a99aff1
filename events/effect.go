package events

// effects tells the shell its work after a call of the core, in the order of the fields. It is a
// value, so that an event costs no allocation for it.
type effects struct {
	// isQueued: the way out gets the event, unless the subscription ends before.
	isQueued bool
	// dropped: count a message that was dropped; 0: none was.
	dropped GapReason
	// wakes: tell the way out that there is something to take. It takes until a batch is empty, so
	// it is told only when there was nothing before.
	wakes bool
	// isOver: tell the way out that the subscription is over, with core.err. It comes once.
	isOver bool
}
