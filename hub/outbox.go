package hub

import "slices"

// Bounds limits a queue: whichever is reached first.
type Bounds struct {
	Messages int
	Bytes    int64 // of payload: a sender can't compute what a protocol makes of it
}

// outbox holds what a connection has not finished with, in order: first the tail, messages that have a
// sequence id (they have left the queue, and wait to be written, or to be confirmed where the protocol has
// acks), then the queue, messages that have none. Only the queue may be dropped from.
//
// The zero outbox is empty and holds no memory.
type outbox struct {
	entries   []*Envelope // entries[head:] are in it
	head      int32
	tail      int32 // of them: numbered
	tailBytes int64 // of payload
	bytes     int64 // of payload, in the queue
}

const (
	// outboxKept is the capacity that an emptied outbox keeps. Idle connections are the normal case: what
	// a burst needed is given back. A capacity above it counts in the budgets of bytes that are held.
	outboxKept = 8
	// outboxSpare is how many times as much as it needs an outbox has, at least, when its messages move
	// to a smaller list: its client has caught up, and need not pay for what a burst needed.
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

// wireBytes is how many bytes of the queue would go over the wire, without what numbers them.
func (o *outbox) wireBytes() (n int64) {
	for _, e := range o.queueEntries() {
		n += int64(len(e.shared))
	}
	return n
}

// fits reports whether the queue may take n more bytes in one message. An empty queue takes any message: a
// large one is no sign of a slow client.
func (o *outbox) hasRoom(n int64, b Bounds) bool {
	return o.queueLen() == 0 || o.queueLen() < b.Messages && o.bytes+n <= b.Bytes
}

// fitsInPlace is fits for a message that takes the place of the i-th of the queue.
func (o *outbox) hasRoomInPlace(i int, n int64, b Bounds) bool {
	return o.queueLen() == 1 || o.bytes-o.queueEntries()[i].payloadSize()+n <= b.Bytes
}

// find returns the index in the queue of the message with a conflation key, or -1.
func (o *outbox) findConflated(key string) int {
	return slices.IndexFunc(o.queueEntries(), func(e *Envelope) bool { return e.ConflationKey == key })
}

// replace puts e in the place of the i-th message of the queue.
func (o *outbox) replaceQueued(i int, e *Envelope) {
	q := o.queueEntries()
	o.bytes += e.payloadSize() - q[i].payloadSize()
	q[i] = e
}

// remove takes the i-th message out of the queue. The shorter part moves: what is before it, or what is behind.
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

// number moves the first message of the queue to the end of the tail.
func (o *outbox) numberFirst() {
	size := o.firstQueued().payloadSize()
	o.tail++
	o.bytes -= size
	o.tailBytes += size
}

// release forgets the first n messages of the tail.
func (o *outbox) releaseTail(n int) {
	live := o.liveEntries()
	for i := range n {
		o.tailBytes -= live[i].payloadSize()
		live[i] = nil
	}
	o.tail -= int32(n)
	o.advanceHead(n)
}

// advance moves the head over n entries that are gone, and gives memory back.
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
