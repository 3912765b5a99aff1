package edge

import (
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/connhub/connhub/hub"
)

const (
	// maxBatch is how many bytes a link takes from its connection for a write. So it bounds the
	// memory of a link beyond its outbox.
	maxBatch = 64 << 10
	// inlineWrites is how many writes the goroutine of a Flush does before the link's writer takes
	// over. It bounds the cost of a fast client with a long outbox for a fan-out.
	inlineWrites = 4
	// writePiece is how many bytes of a batch go into a Write if the socket can't report its
	// progress: a TLS record.
	writePiece = 16 << 10
	// blockedWrite is the least duration of such a Write that had to wait for the client to read.
	// An idle kernel takes microseconds.
	blockedWrite = 5 * time.Millisecond
)

// output is the bytes that a link is writing: a batch of data, or control frames. Idle links have
// none. Outputs are pooled. A single goroutine uses an output at a time: the holder of the link's
// lock, or the link's writer.
type output struct {
	link    *link
	batch   hub.Batch
	bytes   []byte // all bytes to write: of the batch, or control frames
	sent    int    // of bytes
	data    bool   // bytes is the batch's
	units   int    // of the batch, reported
	blocked bool   // the socket took no more at the last write
	err     error  // of the socket

	// The functions that syscall.RawConn calls. They are made once, so a write allocates nothing.
	writeOnceFunc func(fd uintptr) bool
	writeAllFunc  func(fd uintptr) bool
}

var outputs = sync.Pool{New: func() any {
	o := new(output)
	o.writeOnceFunc, o.writeAllFunc = o.writeOnce, o.writeAll
	return o
}}

func newOutput(l *link) *output {
	o := outputs.Get().(*output)
	o.link = l
	return o
}

func (o *output) recycleOutput() {
	o.link, o.err, o.blocked = nil, nil, false
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

// tryWrite does a write that can't block, and reports whether it wrote all.
func (o *output) tryWrite(raw syscall.RawConn) (bool, error) {
	if err := raw.Write(o.writeOnceFunc); err != nil {
		return false, err
	}
	return o.isAllSent(), o.err
}

// writeBlocking writes all remaining bytes, however long it takes. Progress on a socket that was
// full is a sign of life: the client has read.
func (o *output) writeBlocking(conn net.Conn, raw syscall.RawConn) error {
	if raw != nil {
		if err := raw.Write(o.writeAllFunc); err != nil {
			return err
		}
		return o.err
	}
	for !o.isAllSent() {
		rest := o.unsentPart()
		began := time.Now()
		n, err := conn.Write(rest[:min(len(rest), writePiece)])
		if n > 0 && time.Since(began) >= blockedWrite {
			o.link.noteLife()
		}
		o.noteSent(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// writeOnce always returns true: the poller must not wait.
func (o *output) writeOnce(fd uintptr) bool {
	var n int
	n, o.blocked, o.err = writeSocket(fd, o.unsentPart())
	o.noteSent(n)
	return true
}

// writeAll returns false if the poller must wait until the socket takes more.
func (o *output) writeAll(fd uintptr) bool {
	for !o.isAllSent() {
		waited := o.blocked
		var n int
		n, o.blocked, o.err = writeSocket(fd, o.unsentPart())
		if n > 0 && waited {
			o.link.noteLife()
		}
		o.noteSent(n)
		if o.err != nil {
			return true
		}
		if o.blocked {
			return false
		}
	}
	return true
}
