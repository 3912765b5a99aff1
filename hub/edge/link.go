package edge

import (
	"encoding/binary"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/netpoll"
	"github.com/connhub/connhub/internal/prefetch"
)

// maxPending bounds, in bytes, the control frames that wait while the client reads a data frame
// slowly: eight pongs at least. Above it the link drops them. A client may only rely on the newest
// pong (RFC 6455 §5.5.3).
const maxPending = 1 << 10

// link is a WebSocket that carries a connection.
//
// Problem: many goroutines write: backends' sends, the read loop (pongs and closes, by way of
// coder/websocket), the heartbeat, callers of Close. None may wait for a slow client. Frames must
// not be mixed. A silent link may cost neither a goroutine nor a buffer.
//
// Invariants:
//   - Bytes are written under the socket's lock, in order. While left is set only ServeWritable
//     writes.
//   - Only whole batches and whole control frames are written, so between two writes the wire is at
//     a frame boundary.
//   - After a close frame nothing is written. The link is draining before a close frame is queued
//     or written. From then on nothing is taken from the connection.
//   - pending is not empty only while left is set, or under the lock.
//   - A goroutine that adds something under the lock calls pumpOutputLocked. ServeWritable looks
//     again, under the lock, before it clears left. So no wake-up is lost.
//
// Outline: pumpOutputLocked writes all that waits. Bytes that the socket does not take stay in
// left, and the socket calls ServeWritable. ServeReadable reads, decides how the link ended, and
// tells the connection. This file has the methods for the hub, and writing. ending.go ends the
// link. wire.go is the view of coder/websocket. reader.go and input.go read. output.go is a single
// write. Package netpoll is the layer below.
//
// The fields of each write come first, in two cache lines: in a fan-out to thousands every line is
// a miss.
type link struct {
	socket netpoll.Socket // its lock is the link's

	// Guarded by the socket's lock.
	left    *output // the bytes that the socket did not take at once; nil: none
	ending  ending
	pending []byte // control frames that wait for a frame boundary

	// Static after newLink.
	connection *hub.Connection
	server     *Server
	protocol   *countedProtocol

	lifecycle // owned by the goroutine that runs the link

	pinged atomic.Int64 // Server.sinceStart of the ping that has no pong yet; 0: none

	beat beat
}

var _ hub.Link = (*link)(nil)

func newLink(s *Server, c *hub.Connection, p *countedProtocol) *link {
	return &link{server: s, connection: c, protocol: p}
}

// Flush writes the outbox of the connection. See hub.Link.
func (l *link) Flush() {
	l.socket.Lock()
	l.pumpOutputLocked()
	l.unlockAndPart()
}

// Stirs reports whether the socket has a sign of life that was not seen yet. See hub.Link.
func (l *link) Stirs() bool { return l.socket.ShowsLife() }

// Prefetch loads the memory of a later Flush into the cache. See hub.Link.
func (l *link) Prefetch(step int) {
	switch step {
	case 0:
		prefetch.Line(unsafe.Pointer(l))
		prefetch.Line(unsafe.Add(unsafe.Pointer(l), unsafe.Offsetof(l.connection)))
	case 1:
		l.connection.Prefetch(0)
		l.socket.Prefetch()
	case 2:
		l.connection.Prefetch(1)
	}
}

// sendPing asks a silent client for a sign of life.
func (l *link) sendPing() {
	now := l.server.sinceStart()
	l.socket.Lock()
	defer l.unlockAndPart()
	l.pinged.Store(int64(now)) // before the write: the answer may be quick
	if l.queueControlLocked(frame.Append(nil, frame.Ping,
		binary.BigEndian.AppendUint64(nil, uint64(now)))) {
		l.server.metrics.pings.Inc()
	}
}

// receivePong notes the round trip of a pong. Only the answer to the newest ping counts: a client
// may send pongs unasked (RFC 6455 §5.5.3), and with any payload.
func (l *link) receivePong(payload []byte) {
	if len(payload) != 8 {
		return
	}
	sent := int64(binary.BigEndian.Uint64(payload))
	if sent != 0 && l.pinged.CompareAndSwap(sent, 0) {
		l.connection.SetRoundTrip(l.server.sinceStart() - time.Duration(sent))
	}
}

// queueControlLocked writes or queues a whole control frame that is no close frame. It returns
// false if it drops the frame.
func (l *link) queueControlLocked(f []byte) bool {
	if l.ending.isDraining() || len(l.pending)+len(f) > maxPending {
		return false
	}
	l.pending = append(l.pending, f...)
	l.pumpOutputLocked()
	return true
}

// pumpOutputLocked writes all that waits, as far as the socket takes it at once. It leaves the rest
// to ServeWritable.
func (l *link) pumpOutputLocked() {
	if l.left != nil || l.ending.broken || l.ending.isDraining() && len(l.pending) == 0 {
		return
	}
	o := newOutput(l)
	for tries := inlineWrites; l.nextOutputLocked(o); tries-- {
		done, err := false, error(nil)
		if tries > 0 {
			done, err = o.tryWriteLocked()
		}
		if err != nil {
			l.markBrokenLocked()
			break
		}
		if !done {
			l.left = o
			l.socket.AwaitRoomLocked(o.unsentPart())
			return
		}
		l.server.metrics.inline.Inc()
		if o.isLastBatch() && len(l.pending) == 0 && !l.ending.owesGoodbye() {
			break // a later push comes with a Flush, which waits for the lock
		}
	}
	o.recycleOutput()
}

// ServeWritable writes left, and all later output, as far as the socket takes it. See
// netpoll.Owner.
func (l *link) ServeWritable() {
	l.socket.Lock()
	defer l.unlockAndPart()
	o := l.left
	if o == nil {
		return // the link has ended
	}
	for range inlineWrites {
		done, err := o.tryWriteLocked()
		if err != nil {
			l.markBrokenLocked()
		} else if !done {
			break
		}
		l.server.metrics.async.Inc()
		if !l.nextOutputLocked(o) {
			o.recycleOutput()
			l.left = nil
			return
		}
	}
	l.socket.AwaitRoomLocked(o.unsentPart())
}

// nextOutputLocked puts the next bytes to write into o. Control frames come first, so a pong waits
// for a single batch at most. It returns false if there is nothing to write.
func (l *link) nextOutputLocked(o *output) bool {
	switch {
	case l.ending.broken:
		return false
	case len(l.pending) > 0:
		o.setFrames(l.pending)
		l.pending = nil
		return true
	case l.ending.isDraining():
		return false
	case l.connection.Take(l, &o.batch, maxBatch):
		o.setBatch()
		return true
	case l.ending.owesGoodbye():
		l.ending.startDraining()
		how := *l.ending.how
		o.setFrames(frame.AppendClose(l.appendGoodbye(nil, how), how.Code, how.Reason))
		return true
	default:
		return false
	}
}
