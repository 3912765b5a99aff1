package edge

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// writeBuffer must hold the longest control frame (127 bytes): so each comes as one Write, which is
// what wire.Write relies on.
const writeBuffer = 128

// upgrade is a response writer that gives coder/websocket our wire in place of the socket. It is gone after
// the handshake: nothing that lives as long as the link may refer to it, or to what it wraps.
type upgrade struct {
	http.ResponseWriter

	link *link
}

var _ http.Hijacker = (*upgrade)(nil)

// Hijack takes the socket from net/http, with buffers that fit a million silent links.
func (u *upgrade) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(u.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// What a client sent behind its request, without waiting for the answer, is in net/http's buffer.
	var early []byte
	if n := buffered.Reader.Buffered(); n > 0 {
		early = make([]byte, n)
		_, _ = buffered.Read(early) // can't fail or fall short: they are there
	}
	l := u.link
	l.open(conn, early)
	w := (*wire)(l)
	l.buffered = bufio.NewReaderSize(w, l.socket.lookahead())
	return w, bufio.NewReadWriter(l.buffered, bufio.NewWriterSize(w, writeBuffer)), nil
}

// briefly is a response writer whose socket lives only as long as it takes to say goodbye.
type briefly struct{ http.ResponseWriter }

var _ http.Hijacker = (*briefly)(nil)

// Hijack takes the socket from net/http.
func (b *briefly) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(b.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return conn, buffered, conn.SetDeadline(time.Now().Add(declineLinger))
}

// Unwrap lets http.ResponseController reach the writer beneath.
func (u *upgrade) Unwrap() http.ResponseWriter { return u.ResponseWriter }
