package edge

import (
	"bufio"
	"encoding/binary"
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/internal/prefetch"
)

// maxPending bounds the control frames that wait for the end of a data frame that the client reads slowly:
// eight pongs at least. More are dropped; a client must not rely on more than the newest (RFC 6455 §5.5.3).
const maxPending = 1 << 10

// link is a WebSocket that carries a connection.
//
// Problem: many goroutines have something to write: backends' sends, the read loop (pongs and closes, by
// way of coder/websocket), the heartbeat, whoever closes. None may wait for a slow client, frames must not
// be mixed, and a silent link may cost neither a goroutine nor a buffer.
//
// Invariants:
//   - Bytes are written by one goroutine at a time: who holds mu, with writes that can't block; or, while
//     writing is set, whoever the socket has for that.
//   - Only whole batches and whole control frames are written, so the wire is at a frame boundary whenever
//     neither is the case.
//   - After a close frame nothing is written. closing is set before one is queued or written; then nothing
//     is taken from the connection any more.
//   - pending is not empty only while writing is set, or under mu.
//   - Whoever adds something under mu calls pumpLocked, and the writer looks again, under mu, before
//     it ends: no wake-up is lost.
//
// Outline: pumpLocked writes what there is; what the socket does not take is handed over to it, and writing ends when
// there is nothing left. advance reads, decides how the link ended, and tells the connection. This file is what the
// hub sees, and writing; wire.go is what coder/websocket sees; reader.go reads; output.go is one write; socket.go
// is what is below.
//
// What each write looks at comes first, in two cache lines: in a fan-out to thousands every line is a miss.
type link struct {
	mu        sync.Mutex
	writing   bool    // the socket has something that it did not take at once
	closing   bool    // a close frame is in pending or written, or there is nobody to write to
	broken    bool    // a write failed: nothing is written any more
	parted    bool    // what parting says has followed
	reprieved bool    // limit was put off, because the client showed life when it was over
	parting   parting // what follows once all is written
	decided   bool    // how is known
	readEnded bool    // coder/websocket is through with the wire
	ownCode   uint16  // of the close frame that coder/websocket wrote; 0: none

	compressed bool // permessage-deflate is agreed to; static before upgrade

	pending []byte // control frames that wait for a frame boundary
	goodbye []byte // the hub's close frame, and the protocol's word about it, which go out behind all that the connection still has

	// Static after newLink.
	connection *hub.Connection
	server     *Server

	// Static after upgrade.
	socket socket

	how   cause.CloseStatus // why the link ends; guarded by mu
	limit *time.Timer       // ends a close that takes too long; nil: none runs; guarded by mu

	protocol *spoken // static after newLink

	resume *hub.Resume // of a client that comes back; nil: it is new, or bound

	// Static after upgrade.
	ws       *websocket.Conn
	buffered *bufio.Reader // what ws reads from; reads from wire

	inbound // owned by the read loop

	heard  atomic.Int64 // Server.now when the client last showed life
	pinged atomic.Int64 // Server.now of the ping that has no pong yet; 0: none

	expires time.Duration // Server.now when its token runs out; 0: never; static before heartbeat.add
	beat    beat          // guarded by heartbeat.mu
	lent    time.Duration // owned by the heartbeat: heard, where that was no sign of life but what the socket promised; 0: never
}

// parting is what ends the socket after the last byte was written.
type parting uint8

const (
	// partLater: the read loop still waits for the client's close.
	partLater parting = iota
	// partHangUp closes the socket: the client has said goodbye, or is gone.
	partHangUp
	// partLinger closes the sending half only: the client may still be sending, and a socket closed with
	// unread bytes sends a reset, which can destroy the close frame before the client reads it.
	partLinger
)

var _ hub.Link = (*link)(nil)

func newLink(s *Server, c *hub.Connection, p *spoken) *link {
	return &link{server: s, connection: c, protocol: p}
}

// open gives the link its socket, and what came on it behind the request.
func (l *link) open(conn net.Conn, early []byte) {
	if tcp, ok := bare(conn).(*net.TCPConn); ok {
		// The heartbeat finds dead peers. The kernel's probes, every 15 s, would only keep phones awake.
		_ = tcp.SetKeepAlive(false)
		boundKernelMemory(tcp)
	}
	l.hear()
	l.socket = l.newSocket(conn, early)
}

// Flush writes what the connection has for the wire. See hub.Link.
func (l *link) Flush() {
	l.mu.Lock()
	l.pumpLocked()
	l.unlock()
}

// Stirs reports whether the socket has something of the client that was not looked at. See hub.Link.
func (l *link) Stirs() bool { return l.socket.stirs() }

// Prefetch gets what Flush looks at near. See hub.Link.
func (l *link) Prefetch(step int) {
	switch step {
	case 0:
		prefetch.Line(unsafe.Pointer(l))
		prefetch.Line(unsafe.Pointer(&l.connection))
		prefetch.Line(unsafe.Pointer(&l.socket))
	case 1:
		l.connection.Prefetch(0)
		l.socket.prefetch()
	case 2:
		l.connection.Prefetch(1)
	}
}

// Close says goodbye behind what the connection still has, and ends the link when the client has answered, at
// the latest after CloseTimeout. See hub.Link.
func (l *link) Close(how cause.CloseStatus) {
	l.mu.Lock()
	if l.closing || l.decided {
		l.mu.Unlock()
		return
	}
	l.decided, l.how = true, how
	if how.Code == 0 {
		l.closing = true
		l.mu.Unlock()
		l.abort()
		return
	}
	l.goodbye = frame.AppendClose(l.appendGoodbye(nil, how), how.Code, how.Reason)
	l.limitLocked()
	l.pumpLocked()
	l.unlock()
}

// appendGoodbye appends what the client's protocol says in front of a close.
func (l *link) appendGoodbye(dst []byte, how cause.CloseStatus) []byte {
	if code := websocket.StatusCode(how.Code); code == websocket.StatusProtocolError || code == websocket.StatusMessageTooBig {
		return dst // that is between the WebSockets
	}
	if p, ok := l.protocol.Protocol.(Goodbye); ok {
		return p.AppendGoodbye(dst, how)
	}
	return dst
}

// sayCloseLocked queues a close frame, in front of all data, and gives the client its time to read and answer
// it.
func (l *link) sayCloseLocked(how cause.CloseStatus) {
	l.goodbye = nil
	l.pending = frame.AppendClose(l.pending, how.Code, how.Reason)
	l.limitLocked()
	l.pumpLocked()
}

func (l *link) limitLocked() {
	if l.limit == nil {
		l.limit = time.AfterFunc(l.server.config.CloseTimeout, l.giveUp)
	}
}

// giveUp ends a close that takes too long. A client has a little longer, once, if it has shown life of which nobody has taken
// note.
func (l *link) giveUp() {
	stirs := l.socket.stirs()
	l.mu.Lock()
	again := stirs && !l.reprieved
	if again {
		l.reprieved = true
		l.limit.Reset(min(reprieve, l.server.config.CloseTimeout))
	}
	l.mu.Unlock()
	if !again {
		l.abort()
	}
}

// ping asks a silent client for a sign of life.
func (l *link) ping() {
	now := l.server.now()
	l.mu.Lock()
	defer l.unlock()
	l.pinged.Store(int64(now)) // before it is written: the answer is quick
	if l.controlLocked(frame.Append(nil, frame.Ping, binary.BigEndian.AppendUint64(nil, uint64(now)))) {
		l.server.metrics.pings.Inc()
	}
}

// pong takes the payload of a pong. Only the answer to the newest ping counts: a client may send pongs
// unasked (RFC 6455 §5.5.3), and with any payload.
func (l *link) pong(payload []byte) {
	if len(payload) != 8 {
		return
	}
	sent := int64(binary.BigEndian.Uint64(payload))
	if sent != 0 && l.pinged.CompareAndSwap(sent, 0) {
		l.connection.SetRoundTrip(l.server.now() - time.Duration(sent))
	}
}

// hear notes a sign of life.
func (l *link) hear() { l.heard.Store(int64(l.server.now())) }

// controlLocked writes or queues a whole control frame other than close, and reports false if it is dropped.
func (l *link) controlLocked(f []byte) bool {
	if l.closing || len(l.pending)+len(f) > maxPending {
		return false
	}
	l.pending = append(l.pending, f...)
	l.pumpLocked()
	return true
}

// pumpLocked writes what there is as far as the socket takes it at once, and leaves the rest to the writer.
func (l *link) pumpLocked() {
	if l.writing || l.broken || l.closing && len(l.pending) == 0 {
		return
	}
	o := newOutput(l)
	for tries := inlineWrites; l.nextLocked(o); tries-- {
		done, err := false, error(nil)
		if tries > 0 {
			done, err = l.socket.tryLocked(o)
		}
		if err != nil {
			l.breakLocked()
			break
		}
		if !done {
			l.writing = true
			l.socket.handOverLocked(o)
			return
		}
		l.server.metrics.inline.Inc()
		if o.last() && len(l.pending) == 0 && len(l.goodbye) == 0 {
			break // what is pushed from now on comes with a Flush, which waits for the lock
		}
	}
	o.free()
}

// nextLocked puts into o what is to be written next: control frames first, so that a pong waits for one batch
// at most. It reports false when there is nothing.
func (l *link) nextLocked(o *output) bool {
	switch {
	case l.broken:
		return false
	case len(l.pending) > 0:
		o.frames(l.pending)
		l.pending = nil
		return true
	case l.closing:
		return false
	case l.connection.Take(l, &o.batch, maxBatch):
		o.taken()
		return true
	case len(l.goodbye) > 0:
		l.closing = true
		o.frames(l.goodbye)
		l.goodbye = nil
		return true
	default:
		return false
	}
}

// breakLocked notes that the socket takes nothing any more. The read loop will find out by itself and may yet
// find the client's close frame among what has come in; but it gets no longer than a close.
func (l *link) breakLocked() {
	l.broken, l.closing, l.pending = true, true, nil
	l.limitLocked()
}

// unlock ends a critical section, and ends the socket if the last byte is written and the read loop has
// decided how to part.
func (l *link) unlock() {
	p := partLater
	if l.closing && !l.writing && !l.parted {
		p = l.parting
		l.parted = p != partLater
	}
	l.mu.Unlock()
	switch p {
	case partHangUp:
		l.socket.hangUp()
	case partLinger:
		if !l.socket.halfClose() {
			l.abort()
		}
	case partLater:
	}
}

// abort ends the socket at once. It never blocks.
func (l *link) abort() {
	l.mu.Lock()
	stuck := l.writing
	l.mu.Unlock()
	// A client that does not read would otherwise have the kernel keep what it has for it, up to some MB, and try for minutes.
	l.socket.abort(stuck)
}
