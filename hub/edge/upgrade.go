package edge

import (
	"bufio"
	"net"
	"net/http"
	"time"

	"github.com/connhub/connhub/hub/edge/opening"
)

// hijackSocket takes the socket from the HTTP server, with the answer to the upgrade. Nothing that
// lives as long as the link may refer to w.
func (l *link) hijackSocket(w http.ResponseWriter) error {
	conn, early, err := takeConn(w)
	if err != nil {
		return err
	}
	l.socket.Open(l.server.sockets, l, conn, early)
	return nil
}

// takeConn takes the socket, and the bytes that the client sent behind its request without waiting
// for the answer.
func takeConn(w http.ResponseWriter) (conn net.Conn, early []byte, err error) {
	if r, ok := w.(*opening.Request); ok {
		return r.TakeConn() //nolint:wrapcheck // names the failed step
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err //nolint:wrapcheck // the same
	}
	if n := buffered.Reader.Buffered(); n > 0 {
		early = make([]byte, n)
		_, _ = buffered.Read(early) // can't fail or fall short: the bytes are buffered
	}
	if r, ok := conn.(*opening.Replayed); ok {
		conn = r.NetConn()
	}
	return conn, early, nil
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
