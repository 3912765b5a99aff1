package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/connhub/connhub/hub/edge/lobby"
)

// line is where TLS handshakes wait for a core.
//
// Problem: a handshake with an RSA key of 4,096 bits costs some 5 ms of a core. When a thousand clients come at once and all
// handshakes advance together, nearly all of them end after their clients have given up.
//
// Outline: as many handshakes compute as the hub has cores. The others wait in line. The line serves addresses in turn, and the
// handshakes of one address in the order in which their clients' bytes came. A handshake that waits for its client has no place
// at a core and none in the line, so silent clients hold up nobody. The line is no longer than Config.MaxStrangers. If
// there are as many, the lobby drops handshakes in line for newcomers of other addresses.
type line struct {
	metrics *metrics
	cores   *cores

	// cutOff ends all handshakes, also those that are in line; cut cancels it.
	cutOff context.Context
	cut    context.CancelFunc
}

// errCut ends the handshakes that wait in line when the server shuts down.
var errCut = errors.New("the hub is shutting down")

func newLine(m *metrics) *line {
	l := &line{metrics: m, cores: newCores(runtime.GOMAXPROCS(0))}
	l.cutOff, l.cut = context.WithCancel(context.Background())
	return l
}

// turn is the place of one handshake. The goroutine that does the handshake owns it.
type turn struct {
	line     *line
	conn     *tcpConn
	stranger *lobby.Stranger
	timeout  time.Duration // for a write

	left    time.Duration // for which the hub may still wait for the client
	late    bool          // the client's bytes lay unread when that was over, so it was put off; once
	working bool          // it has a core
}

// read is a read of the handshake: it gives the core away, waits for the client, and waits in line for a core again.
func (t *turn) read(b []byte) (int, error) {
	t.rest()
	began := time.Now()
	if err := t.conn.SetReadDeadline(began.Add(t.left)); err != nil {
		return 0, err //nolint:wrapcheck // is the socket
	}
	n, err := t.conn.Read(b)
	if t.left -= time.Since(began); t.left <= 0 && n > 0 && !t.late {
		t.late, t.left = true, reprieve
	}
	if err != nil {
		return n, err //nolint:wrapcheck // is the socket
	}
	return n, t.work()
}

// work waits in line for a core.
func (t *turn) work() error {
	dropped := t.stranger.Queue()
	t.line.metrics.tlsWaiting.Inc()
	err := t.line.cores.acquire(t.stranger.Address(), dropped, t.line.cutOff.Done())
	t.line.metrics.tlsWaiting.Dec()
	if err != nil {
		return err
	}
	t.stranger.Serve()
	t.line.metrics.tlsWorking.Inc()
	t.working = true
	return t.conn.SetWriteDeadline(time.Now().Add(t.timeout))
}

// rest gives the core away.
func (t *turn) rest() {
	if t.working {
		t.working = false
		t.line.cores.release()
		t.line.metrics.tlsWorking.Dec()
	}
	t.stranger.Wait()
}

// greeter is the listener that net/http has under TLS: it does the handshakes, and returns connections whose handshake is done.
type greeter struct {
	net.Listener

	server  *Server
	greeted chan net.Conn
	failed  chan error    // of Accept; one
	done    chan struct{} // closed by Close
	close   func() error  // once
	ended   chan struct{} // closed when run has ended
}

// newGreeter starts a goroutine that accepts. It ends when Close was called or accept fails.
func newGreeter(s *Server, l net.Listener) *greeter {
	g := &greeter{
		Listener: l, server: s, greeted: make(chan net.Conn),
		failed: make(chan error, 1), done: make(chan struct{}), ended: make(chan struct{}),
	}
	g.close = sync.OnceValue(func() error {
		close(g.done)
		return l.Close()
	})
	go g.run()
	return g
}

// Accept returns the next connection whose handshake is done.
func (g *greeter) Accept() (net.Conn, error) {
	select {
	case conn := <-g.greeted:
		return conn, nil
	case err := <-g.failed:
		return nil, err
	case <-g.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. Handshakes that are done later are no use, and their connections are closed.
func (g *greeter) Close() error { return g.close() }

// wait returns when no connection is accepted any more.
func (g *greeter) wait() {
	_ = g.Close()
	<-g.ended
}

func (g *greeter) run() {
	defer close(g.ended)
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			g.failed <- err
			return
		}
		if !g.server.enter() {
			g.server.lobby.Find(conn).Leave(lobby.Ended)
			_ = bare(conn).Close()
			continue
		}
		go func() {
			defer g.server.goroutines.Done()
			g.greet(conn.(*tls.Conn))
		}()
	}
}

// greet does a handshake and hands the connection to net/http.
func (g *greeter) greet(conn *tls.Conn) {
	stranger := g.server.lobby.Find(conn)
	if err := g.server.line.handshake(conn, stranger, g.server.config.HandshakeTimeout); err != nil {
		g.server.metrics.tlsFailed.Inc()
		g.server.config.Logger.Debug("TLS handshake failed",
			slog.Any("error", err), slog.String("remote_address", conn.RemoteAddr().String()))
		answerPlainText(err)
		stranger.Leave(lobby.Ended)
		_ = bare(conn).Close()
		return
	}
	g.server.metrics.tlsDone.Inc()
	select {
	case g.greeted <- conn:
	case <-g.done:
		stranger.Leave(lobby.Ended)
		_ = bare(conn).Close()
	}
}

// handshake returns when the handshake is done, or has failed. timeout is how long the hub waits for the client in all.
func (l *line) handshake(conn *tls.Conn, stranger *lobby.Stranger, timeout time.Duration) error {
	stop := context.AfterFunc(l.cutOff, func() { _ = bare(conn).Close() })
	defer stop()
	s, ok := conn.NetConn().(*sealed)
	if !ok { // no socket, but a test's pipe
		_ = conn.SetDeadline(time.Now().Add(timeout))
		err := conn.HandshakeContext(l.cutOff)
		return errors.Join(err, conn.SetDeadline(time.Time{}))
	}
	s.turn = &turn{line: l, conn: &s.tcpConn, stranger: stranger, timeout: timeout, left: timeout}
	err := conn.HandshakeContext(context.Background()) // the deadlines of turn end it
	s.turn.rest()
	s.turn = nil
	if err != nil {
		return err //nolint:wrapcheck // greet looks at it
	}
	return s.SetDeadline(time.Time{})
}

// answerPlainText tells a client that speaks HTTP to a port of TLS what is wrong. Its request begins where a record's header was
// expected.
func answerPlainText(err error) {
	wrong, ok := errors.AsType[tls.RecordHeaderError](err)
	if !ok || wrong.Conn == nil {
		return
	}
	switch string(wrong.RecordHeader[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		_ = wrong.Conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = io.WriteString(wrong.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nThe client sent an HTTP request to an HTTPS server.\n")
	}
}
