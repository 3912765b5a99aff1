package hub

import "slices"

// Bounds limits a queue. The limit that is reached first counts.
type Bounds struct {
	// Messages bounds the number of messages.
	Messages int
	// Bytes bounds the payload, because a sender can't compute the size on the wire.
	Bytes int64
}

// outbox holds the messages that a connection has not finished with, in order. First comes the
// tail: messages that have a sequence id. They have left the queue, and wait to be written, or to
// be confirmed if the protocol has acks. Then comes the queue: messages without an id. Only the
// queue may drop messages.
//
// The zero outbox is empty and holds no memory.
type outbox struct {
	// The messages are entries[head:].
	entries []*Envelope
	head    int32
	// tail is how many of them have a sequence id.
	tail int32
	// tailBytes is the payload in the tail, bytes that in the queue.
	tailBytes, bytes int64
}

const (
	// outboxKept is the capacity that an emptied outbox keeps. Idle connections are the normal
	// case, so the memory of a burst is given back. A capacity above it counts in the budgets of
	// held bytes.
	outboxKept = 8
	// outboxSpare says when messages move to a smaller list: when the list has at least this many
	// times the capacity that they need. The client has caught up, and need not pay for the memory
	// of a burst.
	outboxSpare = 4
)

func (o *outbox) len() int                  { return len(o.entries) - int(o.head) }
func (o *outbox) queueLen() int             { return o.len() - int(o.tail) }
func (o *outbox) entryAt(i int) *Envelope   { return o.entries[int(o.head)+i] }
func (o *outbox) liveEntries() []*Envelope  { return o.entries[o.head:] }
func (o *outbox) queueEntries() []*Envelope { return o.entries[o.head+o.tail:] }
func (o *outbox) firstQueued() *Envelope    { return o.entries[o.head+o.tail] }
func (o *outbox) pushEnvelope(e *Envelope) {
	o.entries = append(o.entries, e)
	o.bytes += e.payloadSize()
}
func (o *outbox) clearAll() { *o = outbox{} }

// wireBytes returns the size of the queue on the wire, without the prefixes that number messages.
func (o *outbox) wireBytes() (n int64) {
	for _, e := range o.queueEntries() {
		n += int64(len(e.shared))
	}
	return n
}

// hasRoom reports whether the queue may take one more message of n bytes. An empty queue takes any
// message: a large message is no sign of a slow client.
func (o *outbox) hasRoom(n int64, b Bounds) bool {
	return o.queueLen() == 0 || o.queueLen() < b.Messages && o.bytes+n <= b.Bytes
}

// hasRoomInPlace is hasRoom for a message that replaces the i-th of the queue.
func (o *outbox) hasRoomInPlace(i int, n int64, b Bounds) bool {
	return o.queueLen() == 1 || o.bytes-o.queueEntries()[i].payloadSize()+n <= b.Bytes
}

// findConflated returns the index in the queue of the message with a conflation key, or -1.
func (o *outbox) findConflated(key string) int {
	hasKey := func(e *Envelope) bool { return e.ConflationKey == key }
	return slices.IndexFunc(o.queueEntries(), hasKey)
}

// replaceQueued puts e in the place of the i-th message of the queue.
func (o *outbox) replaceQueued(i int, e *Envelope) {
	q := o.queueEntries()
	o.bytes += e.payloadSize() - q[i].payloadSize()
	q[i] = e
}

// removeQueued takes the i-th message out of the queue. The shorter part moves: the messages before
// it, or those behind it.
func (o *outbox) removeQueued(i int) {
	at := int(o.tail) + i
	live := o.liveEntries()
	o.bytes -= live[at].payloadSize()
	if behind := len(live) - 1 - at; behind < at {
		copy(live[at:], live[at+1:])
		live[len(live)-1] = nil
		o.entries = o.entries[:len(o.entries)-1]
		o.advanceHead(0)
		return
	}
	copy(live[1:at+1], live[:at])
	live[0] = nil
	o.advanceHead(1)
}

// numberFirst moves the first message of the queue to the end of the tail.
func (o *outbox) numberFirst() {
	size := o.firstQueued().payloadSize()
	o.tail++
	o.bytes -= size
	o.tailBytes += size
}

// releaseTail forgets the first n messages of the tail.
func (o *outbox) releaseTail(n int) {
	live := o.liveEntries()
	for i := range n {
		o.tailBytes -= live[i].payloadSize()
		live[i] = nil
	}
	o.tail -= int32(n)
	o.advanceHead(n)
}

// advanceHead moves the head over n entries that are gone, and gives memory back.
func (o *outbox) advanceHead(n int) {
	o.head += int32(n)
	switch {
	case o.len() == 0:
		o.head = 0
		if cap(o.entries) > outboxKept {
			o.entries = nil
		} else {
			o.entries = o.entries[:0]
		}
	case o.head < outboxKept || int(o.head)*2 < len(o.entries):
	case max(o.len(), outboxKept)*outboxSpare <= cap(o.entries):
		o.entries = append(make([]*Envelope, 0, max(o.len(), outboxKept)*2), o.liveEntries()...)
		o.head = 0
	default:
		n := copy(o.entries, o.entries[o.head:])
		clear(o.entries[n:])
		o.entries = o.entries[:n]
		o.head = 0
	}
}
