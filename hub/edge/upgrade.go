package edge

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// writeBuffer is the size in bytes of coder/websocket's writer. It must hold the longest control
// frame (127 bytes), so each control frame comes as a single Write. wire.Write relies on that.
const writeBuffer = 128

// lookahead is the size in bytes of the buffer of coder/websocket's reader: the least that bufio
// allows. The socket has a buffer of its own.
const lookahead = 16

// linkHijacker is a response writer that gives coder/websocket the link's wire in place of the
// socket. It is gone after the handshake. Nothing that lives as long as the link may refer to it,
// or to the writer below it.
type linkHijacker struct {
	http.ResponseWriter

	link *link
}

var _ http.Hijacker = (*linkHijacker)(nil)

// Hijack takes the socket from net/http, with buffers small enough for a million silent links.
func (u *linkHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// A client may send bytes behind its request without waiting for the answer. They are in
	// net/http's buffer.
	var early []byte
	if n := buffered.Reader.Buffered(); n > 0 {
		early = make([]byte, n)
		_, _ = buffered.Read(early) // can't fail or fall short: the bytes are buffered
	}
	l := u.link
	l.socket.Open(l.server.sockets, l, conn, early)
	w := (*wire)(l)
	l.buffered = bufio.NewReaderSize(w, lookahead)
	return w, bufio.NewReadWriter(l.buffered, bufio.NewWriterSize(w, writeBuffer)), nil
}

// closeOnlyHijacker is a response writer that hijacks the connection with a deadline of
// declineLinger.
type closeOnlyHijacker struct{ http.ResponseWriter }

var _ http.Hijacker = (*closeOnlyHijacker)(nil)

// Hijack takes the socket from net/http.
func (b *closeOnlyHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(b.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return conn, buffered, conn.SetDeadline(time.Now().Add(declineLinger))
}

// Unwrap gives http.ResponseController the writer below.
func (u *linkHijacker) Unwrap() http.ResponseWriter { return u.ResponseWriter }
