package hub

import (
	"sync"

	"github.com/connhub/connhub/hub/cause"
)

// Link is the wire that carries a connection now. It pulls messages. The connection calls Flush
// when there may be some. The link calls Connection.Take, writes, and reports with
// Connection.Written. When the wire is gone it calls Connection.Unbind, once.
//
// All methods are called without any lock of the hub, possibly concurrently, and must return at
// once. The hub compares links (it ignores a late report of an old link), so implement it on a
// pointer.
type Link interface {
	// Flush says that Take may have messages. The link should write as much as the wire takes
	// without blocking before Flush returns, so that the receipt can say "written".
	Flush()

	// Stirs reports whether the client has shown life that the link has not handled yet: input is
	// unread, or a wire that was full has room. The hub asks before it gives a client up.
	Stirs() bool

	// Prefetch has the processor fetch the memory that Flush will read (see package prefetch): in
	// step 0 the link itself, in each later step the memory that it points to, which had time to
	// arrive. It changes nothing, and may do nothing.
	Prefetch(step int)

	// Close ends the wire, after a goodbye with the close's code and reason behind the bytes that
	// were taken already. The connection is closed or has a new link: there is nothing more to
	// take. Only the first call counts.
	Close(cause.CloseStatus)
}

// prefetchSteps is how many steps Link.Prefetch has.
const prefetchSteps = 3

// Batch is filled by Take for a link: bytes to write, in whole units (the frames of one message).
// The zero Batch is ready to use. It keeps its buffer, so reuse it if you can. It must not be
// copied, nor given to Take again before its bytes are written.
type Batch struct {
	_ [0]sync.Mutex // takes no memory, and has vet find copies

	// Bytes are to be written. Connections may share them: they must not be changed.
	Bytes []byte

	// Last says that nothing was left to take. The hub calls Flush after each message that it
	// pushes from then on. So a link that holds its lock all along, and whose Flush waits for that
	// lock, need not call Take again.
	Last bool

	// ends are the offsets in Bytes at which units end. Greetings and replies are no units.
	ends []int
	// buffer holds Bytes if the batch has bytes of its own.
	buffer []byte
}

// Units returns how many units lie wholly in the first n bytes.
func (b *Batch) Units(n int) (units int) {
	for units < len(b.ends) && b.ends[units] <= n {
		units++
	}
	return units
}

// batchBufferKept is the largest buffer that a batch keeps for the next use. A larger buffer was
// for a single large message.
const batchBufferKept = 128 << 10

func (b *Batch) emptyBatch() {
	b.Bytes, b.Last = nil, false
	b.ends = b.ends[:0]
	if cap(b.buffer) > batchBufferKept {
		b.buffer = nil
	}
	b.buffer = b.buffer[:0]
}

// appendFirst puts bytes that are no unit at the beginning.
func (b *Batch) appendFirst(first []byte) {
	b.buffer = append(b.buffer, first...)
	b.Bytes = b.buffer
}

// ownBytes copies shared bytes into the batch's buffer, which then backs Bytes.
func (b *Batch) ownBytes() {
	if len(b.buffer) == 0 && len(b.Bytes) > 0 {
		b.buffer = append(b.buffer, b.Bytes...)
	}
}

// appendUnit appends the shared bytes of the message with this sequence id. If numbered is not nil,
// the protocol's prefix goes before them. A single unit without a prefix is not copied.
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
