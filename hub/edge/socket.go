package edge

import (
	"errors"
	"net"
)

// errParked is the error of a parked socket's reads if there is no input and no message has begun.
// The link needs no goroutine until more input comes.
var errParked = errors.New("nothing to read")

// socket is the layer below a link. blocking has goroutines that wait, on any system. parked, on
// Linux, has a poller that waits for all.
//
// The goroutine that runs the link calls runLink, readInput, readableBytes, messageDone and
// discardInput, and at the end closeSocket. The goroutine of a parked socket may be a new goroutine
// each time. Methods with Locked are called under the link's lock. hangUp, halfClose, abortSocket
// and wakeReader are never called under it, and never block, except for TLS's goodbye.
type socket interface {
	// runLink calls link.serveReadable until it reports the end.
	runLink()

	// lookaheadSize returns the size in bytes of the buffer through which coder/websocket reads.
	lookaheadSize() int
	// readInput fills b with the client's bytes.
	readInput(b []byte) (int, error)
	// readableBytes returns how many bytes readInput has without waiting.
	readableBytes() int
	// showsLife reports whether the client has given a sign of life that was not seen yet: there is
	// input in the socket, or the socket was full and has room. The hub asks before it gives a
	// client up, because the hub itself may have been stopped, or late.
	showsLife() bool
	// messageDone tells that a message was read to its end.
	messageDone()
	// wakeReader makes a waiting readInput look at link.readEnded.
	wakeReader()
	// discardInput reads and drops input. It returns nil when the socket has ended.
	discardInput() error

	// prefetchState loads the memory of a later tryWriteLocked into the cache; see package
	// prefetch.
	prefetchState()
	// tryWriteLocked writes the bytes of o that go without waiting, and reports whether it wrote
	// all.
	tryWriteLocked(o *output) (bool, error)
	// handOverLocked makes the socket write the rest of o, and all later output. link.writing is
	// set until that is done.
	handOverLocked(o *output)

	// halfClose ends the sending half. It returns false if the socket can't. hangUp ends the socket
	// behind all written bytes.
	halfClose() bool
	hangUp()
	// abortSocket ends the socket at once. With reset the kernel drops its bytes for the client.
	abortSocket(reset bool)
	// closeSocket closes the socket, and returns when no goroutine writes to it any more.
	closeSocket()
}

// newSocket takes over a connection, and the bytes that the client already sent on it.
func (l *link) newSocket(conn net.Conn, early []byte) socket {
	if p := l.server.parkSocket(l, conn, early); p != nil {
		return p
	}
	return newBlocking(l, conn, early)
}
