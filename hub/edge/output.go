package edge

import (
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/connhub/connhub/hub"
)

const (
	// maxBatch is how many bytes a link takes from its connection for one write, and so what one link may
	// keep busy in memory beyond its outbox.
	maxBatch = 64 << 10
	// inlineWrites is how many writes the goroutine of a Flush does before the link gets one of its own.
	// It bounds what one fast client with a long outbox costs a fan-out.
	inlineWrites = 4
	// writePiece is how much of a batch goes into one Write where the socket can't tell how far it is:
	// one TLS record.
	writePiece = 16 << 10
	// blockedWrite is how long such a Write takes at least when it had to wait for the client to read. An
	// idle kernel takes microseconds.
	blockedWrite = 5 * time.Millisecond
)

// output is what a link is writing: a batch of data, or control frames. Idle links have none; they are
// pooled. One goroutine uses it at a time: who holds the link's lock, or the link's writer.
type output struct {
	link    *link
	batch   hub.Batch
	bytes   []byte // all that is written: of the batch, or control frames
	sent    int    // of bytes
	data    bool   // bytes is the batch's
	units   int    // of the batch, reported
	blocked bool   // the socket took no more when it was last tried
	err     error  // of the socket

	// The functions that syscall.RawConn calls, made once, so that a write allocates nothing.
	once  func(fd uintptr) bool
	drain func(fd uintptr) bool
}

var outputs = sync.Pool{New: func() any {
	o := new(output)
	o.once, o.drain = o.writeOnce, o.writeAll
	return o
}}

func newOutput(l *link) *output {
	o := outputs.Get().(*output)
	o.link = l
	return o
}

func (o *output) free() {
	o.link, o.err, o.blocked = nil, nil, false
	o.frames(nil)       // an output has nothing to write until it gets something
	o.batch.Bytes = nil // shared with other connections, not to be kept alive by the pool
	outputs.Put(o)
}

// frames makes control frames what is written.
func (o *output) frames(b []byte) { o.bytes, o.sent, o.data = b, 0, false }

// taken makes the batch what is written.
func (o *output) taken() { o.bytes, o.sent, o.data, o.units = o.batch.Bytes, 0, true, 0 }

// last reports whether the connection had nothing behind the batch when it was taken.
func (o *output) last() bool { return o.data && o.batch.Last }

func (o *output) done() bool   { return o.sent == len(o.bytes) }
func (o *output) rest() []byte { return o.bytes[o.sent:] }

// advance notes that the kernel took n more bytes, and tells the connection about units that are whole.
func (o *output) advance(n int) {
	o.sent += n
	if !o.data || n == 0 {
		return
	}
	if more := o.batch.Units(o.sent) - o.units; more > 0 {
		o.units += more
		o.link.connection.Written(o.link, more)
	}
}

// try does one write that can't block, and reports whether that was all.
func (o *output) try(raw syscall.RawConn) (bool, error) {
	if err := raw.Write(o.once); err != nil {
		return false, err
	}
	return o.done(), o.err
}

// write writes all that is left, however long it takes. Progress on a socket that was full is a sign of
// life: the client has read.
func (o *output) write(conn net.Conn, raw syscall.RawConn) error {
	if raw != nil {
		if err := raw.Write(o.drain); err != nil {
			return err
		}
		return o.err
	}
	for !o.done() {
		rest := o.rest()
		began := time.Now()
		n, err := conn.Write(rest[:min(len(rest), writePiece)])
		if n > 0 && time.Since(began) >= blockedWrite {
			o.link.hear()
		}
		o.advance(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// writeOnce always returns true: the poller is not to wait.
func (o *output) writeOnce(fd uintptr) bool {
	var n int
	n, o.blocked, o.err = writeSocket(fd, o.rest())
	o.advance(n)
	return true
}

// writeAll returns false where the poller is to wait until the socket takes more.
func (o *output) writeAll(fd uintptr) bool {
	for !o.done() {
		waited := o.blocked
		var n int
		n, o.blocked, o.err = writeSocket(fd, o.rest())
		if n > 0 && waited {
			o.link.hear()
		}
		o.advance(n)
		if o.err != nil {
			return true
		}
		if o.blocked {
			return false
		}
	}
	return true
}
