package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"github.com/connhub/connhub/hub/edge/cores"
	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/hub/edge/netpoll"
)

// line is where TLS handshakes wait for a core.
//
// Problem: a handshake with an RSA key of 4,096 bits costs some 5 ms of a core. If a thousand
// clients come at once and all handshakes advance together, nearly all of them end after their
// clients have given up.
//
// Outline: as many handshakes compute as the hub has cores. The rest waits in line. The line serves
// addresses in turn, and the handshakes of an address in the order in which their clients' bytes
// came. A handshake that waits for its client has no core and no place in line, so silent clients
// delay no handshake. The line holds at most Config.MaxStrangers handshakes. If it is full, the
// lobby drops handshakes in line for newcomers of further addresses.
type line struct {
	metrics *metrics
	cores   *cores.Cores

	// cutOff ends all handshakes, in line or not; cutAll cancels it.
	cutOff context.Context
	cutAll context.CancelFunc
}

func newLine(m *metrics) *line {
	l := &line{metrics: m, cores: cores.New(runtime.GOMAXPROCS(0))}
	l.cutOff, l.cutAll = context.WithCancel(context.Background())
	return l
}

// handshakeTurn is a handshake's use of the line. The goroutine that does the handshake owns it.
type handshakeTurn struct {
	line     *line
	conn     *netpoll.Conn
	stranger *lobby.Stranger
	timeout  time.Duration // for a write

	left time.Duration // for which the hub may still wait for the client
	// late is set when left was extended, because the client's bytes lay unread when it was over.
	late    bool
	working bool // the handshake has a core
}

// readClient reads for the handshake. It gives the core away, waits for the client, and waits in
// line for a core again.
func (t *handshakeTurn) readClient(b []byte) (int, error) {
	t.yieldCore()
	if t.left <= 0 {
		return 0, os.ErrDeadlineExceeded
	}
	began := time.Now()
	if err := t.conn.SetReadDeadline(began.Add(t.left)); err != nil {
		return 0, err //nolint:wrapcheck // is the socket
	}
	n, err := t.conn.Read(b)
	if t.left -= time.Since(began); t.left <= 0 && n > 0 && !t.late {
		t.late, t.left = true, netpoll.Reprieve
	}
	if err != nil {
		return n, err //nolint:wrapcheck // is the socket
	}
	return n, t.waitForCore()
}

// waitForCore waits in line for a core.
func (t *handshakeTurn) waitForCore() error {
	dropped := t.stranger.Queue()
	waiting := t.line.metrics.tlsWaiting
	err := t.line.cores.Acquire(t.stranger.Address(), waiting.Inc, dropped, t.line.cutOff.Done())
	waiting.Dec()
	if err != nil {
		return err
	}
	t.stranger.Serve()
	t.line.metrics.tlsWorking.Inc()
	t.working = true
	return t.conn.SetWriteDeadline(time.Now().Add(t.timeout))
}

// yieldCore gives the core away, if the handshake has a core.
func (t *handshakeTurn) yieldCore() {
	if t.working {
		t.working = false
		t.line.cores.Release()
		t.line.metrics.tlsWorking.Dec()
	}
	t.stranger.Wait()
}

// NewTLSListener returns a listener for Server.Serve whose connections speak TLS. Their handshakes
// can wait in line, and their links can be parked.
func NewTLSListener(l net.Listener, config *tls.Config) net.Listener {
	return netpoll.NewTLSListener(l, config)
}

// runHandshake returns when the handshake is done, or has failed. timeout is the total time for
// which the hub waits for the client.
func (l *line) runHandshake(conn *tls.Conn, stranger *lobby.Stranger, timeout time.Duration) error {
	stop := context.AfterFunc(l.cutOff, func() { _ = netpoll.Unwrap(conn).Close() })
	defer stop()
	s, ok := conn.NetConn().(*netpoll.Sealed)
	if !ok { // no socket: a pipe of a test
		_ = conn.SetDeadline(time.Now().Add(timeout))
		err := conn.HandshakeContext(l.cutOff)
		return errors.Join(err, conn.SetDeadline(time.Time{}))
	}
	turn := &handshakeTurn{
		line: l, conn: &s.Conn, stranger: stranger, timeout: timeout, left: timeout,
	}
	s.DivertReads(turn.readClient)
	err := conn.HandshakeContext(context.Background()) // turn's deadlines end it
	turn.yieldCore()
	s.DivertReads(nil)
	if err != nil {
		return err //nolint:wrapcheck // answerPlainText looks at it
	}
	return s.SetDeadline(time.Time{})
}

// answerPlainText answers a client that speaks plain HTTP to a TLS port. Its request stands where
// TLS expected a record's header.
func answerPlainText(err error) {
	wrong, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || wrong.Conn == nil {
		return
	}
	switch string(wrong.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		_ = wrong.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(wrong.Conn,
			"HTTP/1.0 400 Bad Request\r\n\r\nThe client sent an HTTP request to an HTTPS server.\n")
	}
}
