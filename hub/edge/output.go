package edge

import (
	"sync"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/netpoll"
)

const (
	// maxBatch is how many bytes a link takes from its connection for a write. So it bounds the
	// memory of a link beyond its outbox.
	maxBatch = netpoll.MaxWrite
	// inlineWrites is how many writes the goroutine of a Flush does before ServeWritable takes
	// over. It bounds the cost of a fast client with a long outbox for a fan-out.
	inlineWrites = 4
)

// output is the bytes that a link is writing: a batch of data, or control frames. Idle links have
// none. Outputs are pooled. The socket's lock guards an output.
type output struct {
	link  *link
	batch hub.Batch
	bytes []byte // all bytes to write: of the batch, or control frames
	sent  int    // of bytes
	data  bool   // bytes is the batch's
	units int    // of the batch, reported
}

var outputs = sync.Pool{New: func() any { return new(output) }}

func newOutput(l *link) *output {
	o := outputs.Get().(*output)
	o.link = l
	return o
}

func (o *output) recycleOutput() {
	o.link = nil
	o.setFrames(nil)    // so that a new user finds nothing to write
	o.batch.Bytes = nil // shared with further connections; the pool must not keep it alive
	outputs.Put(o)
}

// setFrames makes control frames the bytes to write.
func (o *output) setFrames(b []byte) { o.bytes, o.sent, o.data = b, 0, false }

// setBatch makes the batch the bytes to write.
func (o *output) setBatch() { o.bytes, o.sent, o.data, o.units = o.batch.Bytes, 0, true, 0 }

// isLastBatch reports whether the outbox was empty behind the batch when the link took it.
func (o *output) isLastBatch() bool { return o.data && o.batch.Last }

func (o *output) isAllSent() bool    { return o.sent == len(o.bytes) }
func (o *output) unsentPart() []byte { return o.bytes[o.sent:] }

// noteSent notes that the kernel took n more bytes. It tells the connection about units that are
// complete.
func (o *output) noteSent(n int) {
	o.sent += n
	if !o.data || n == 0 {
		return
	}
	if more := o.batch.Units(o.sent) - o.units; more > 0 {
		o.units += more
		o.link.connection.Written(o.link, more)
	}
}

// tryWriteLocked writes the bytes that go without waiting, and reports whether it wrote all.
func (o *output) tryWriteLocked() (bool, error) {
	n, err := o.link.socket.TryWriteLocked(o.unsentPart())
	o.noteSent(n)
	return o.isAllSent(), err
}
