package edge

import (
	"errors"
	"net"
)

// errParked is what a parked socket's reads return when nothing is there to read and no message has begun: the link can do
// without a goroutine until more comes.
var errParked = errors.New("nothing to read")

// socket is what carries a link: blocking, with goroutines that wait, anywhere; or parked, on Linux, where a poller waits.
//
// The goroutine that runs the link calls run, read, ready, rest and discard, and at the end finish; a parked one may be
// another one each time. Methods with Locked are called under the link's lock; hangUp, halfClose, abort and wake
// never, and they never block, but for TLS's goodbye.
type socket interface {
	// run carries the link on by link.advance, until it reports the end.
	run()

	// lookahead is the size of the buffer through which coder/websocket reads.
	lookahead() int
	// read fills b with what the client sent.
	read(b []byte) (int, error)
	// ready is how many bytes read has without waiting.
	ready() int
	// stirs reports whether the client has shown life of which nobody has taken note yet: input lies in the socket, or
	// the socket was full and has room. The hub looks there before it gives a client up, because the hub itself may have
	// been stopped, or late.
	stirs() bool
	// rest says that a message was read to its end.
	rest()
	// wake has a read that waits look at link.readEnded.
	wake()
	// discard reads on and forgets, and returns nil when the socket has ended.
	discard() error

	// prefetch gets what tryLocked looks at near; see package prefetch.
	prefetch()
	// tryLocked writes as much of o as goes without waiting, and reports whether that was all.
	tryLocked(o *output) (bool, error)
	// handOverLocked sees to it that what is left of o is written, and what comes behind it. Until then link.writing is set.
	handOverLocked(o *output)

	// halfClose ends what is sent, false: it can't. hangUp ends the socket, behind what is written.
	halfClose() bool
	hangUp()
	// abort ends the socket at once; with reset the kernel forgets what it has for the client.
	abort(reset bool)
	// finish closes the socket, and returns when nobody writes to it any more.
	finish()
}

// newSocket takes over a connection, and what the client sent on it already.
func (l *link) newSocket(conn net.Conn, early []byte) socket {
	if p := l.server.park(l, conn, early); p != nil {
		return p
	}
	return newBlocking(l, conn, early)
}
