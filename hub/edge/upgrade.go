package edge

import (
	"bufio"
	"net"
	"net/http"
	"time"
)

// hijackSocket takes the socket from net/http, after the answer to the upgrade. Nothing that lives
// as long as the link may refer to w.
func (l *link) hijackSocket(w http.ResponseWriter) error {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err //nolint:wrapcheck // says what failed
	}
	// A client may send bytes behind its request without waiting for the answer. They are in
	// net/http's buffer.
	var early []byte
	if n := buffered.Reader.Buffered(); n > 0 {
		early = make([]byte, n)
		_, _ = buffered.Read(early) // can't fail or fall short: the bytes are buffered
	}
	l.socket.Open(l.server.sockets, l, conn, early)
	return nil
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
