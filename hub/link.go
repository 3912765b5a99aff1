package hub

import "github.com/connhub/connhub/hub/cause"

// Link is the wire that carries a connection now. It pulls what is to be written: the connection calls
// Flush when there may be something; the link calls Connection.Take, writes, and reports with
// Connection.Written. When the wire is gone it calls Connection.Unbind, once.
//
// All methods are called without any lock of the hub, possibly concurrently, and must return at once.
// The hub compares links (a late report of an old link is ignored), so implement it on a pointer.
type Link interface {
	// Flush says that Take may have something. What the wire takes without blocking should be written
	// before Flush returns, so that the answer to the backend can say "written".
	Flush()

	// Stirs reports whether the client has shown life that the link has not come to look at: input is unread, or a wire that
	// was full has room. The hub asks before it gives a client up.
	Stirs() bool

	// Prefetch has the processor fetch what Flush will look at (see package prefetch): in step 0 what the link is, and in
	// each later one, when that has had time to arrive, what it points to. It changes nothing, and may do nothing.
	Prefetch(step int)

	// Close says goodbye with the close's code and reason, behind what was taken already, and ends the
	// wire. The connection is closed or has another link: there is nothing more to take. Only the first
	// call counts.
	Close(cause.CloseStatus)
}

// prefetchSteps is how many steps Link.Prefetch has.
const prefetchSteps = 3

// Batch is what Take hands to a link: bytes to write, in whole units (the frames of one message). The
// zero Batch is ready to use. It keeps its buffer, so reuse one where you can. It must not be copied,
// nor given to Take again before its bytes are written.
type Batch struct {
	// Bytes is what to write. Connections may share it: it must not be changed.
	Bytes []byte

	// Last says that nothing was left to take. What is pushed from then on is followed by a Flush, so a link
	// that holds its lock all along, and whose Flush waits for that lock, need not ask again.
	Last bool

	ends   []int  // offsets in Bytes at which units end; greetings and replies are none
	buffer []byte // what Bytes points to when the batch has bytes of its own
}

// Units is the number of units that lie wholly in the first n bytes.
func (b *Batch) Units(n int) int {
	units := 0
	for _, end := range b.ends {
		if end > n {
			break
		}
		units++
	}
	return units
}

// batchBufferKept is the largest buffer that a batch keeps for the next use; larger ones were for one
// large message.
const batchBufferKept = 128 << 10

func (b *Batch) emptyBatch() {
	b.Bytes, b.Last = nil, false
	b.ends = b.ends[:0]
	if cap(b.buffer) > batchBufferKept {
		b.buffer = nil
	}
	b.buffer = b.buffer[:0]
}

// begin makes bytes the first ones that are no unit.
func (b *Batch) appendFirst(first []byte) {
	b.buffer = append(b.buffer, first...)
	b.Bytes = b.buffer
}

// own copies shared bytes into the batch's buffer, which then backs Bytes.
func (b *Batch) ownBytes() {
	if len(b.buffer) == 0 && len(b.Bytes) > 0 {
		b.buffer = append(b.buffer, b.Bytes...)
	}
}

// add appends one unit: with numbers, what the protocol puts before the shared bytes of the message with
// this sequence id, then the shared bytes. A unit that stands alone and without numbers is not copied.
func (b *Batch) appendUnit(numbered Numbered, sequence uint64, shared []byte) {
	if numbered == nil && len(b.Bytes) == 0 {
		b.Bytes = shared
	} else {
		b.ownBytes()
		if numbered != nil {
			b.buffer = numbered.AppendPrefix(b.buffer, sequence, shared)
		}
		b.buffer = append(b.buffer, shared...)
		b.Bytes = b.buffer
	}
	b.ends = append(b.ends, len(b.Bytes))
}
