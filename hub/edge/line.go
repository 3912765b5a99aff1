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
	cores   *cores

	// cutOff ends all handshakes, in line or not; cutAll cancels it.
	cutOff context.Context
	cutAll context.CancelFunc
}

// errCut ends the handshakes that wait in line when the server shuts down.
var errCut = errors.New("the hub is shutting down")

func newLine(m *metrics) *line {
	l := &line{metrics: m, cores: newCores(runtime.GOMAXPROCS(0))}
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
	t.line.metrics.tlsWaiting.Inc()
	err := t.line.cores.acquireCore(t.stranger.Address(), dropped, t.line.cutOff.Done())
	t.line.metrics.tlsWaiting.Dec()
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
		t.line.cores.releaseCore()
		t.line.metrics.tlsWorking.Dec()
	}
	t.stranger.Wait()
}

// NewTLSListener returns a listener for Server.Serve whose connections speak TLS. Their handshakes
// can wait in line, and their links can be parked.
func NewTLSListener(l net.Listener, config *tls.Config) net.Listener {
	return netpoll.NewTLSListener(l, config)
}

// greeter is the listener that net/http has under TLS. It does the handshakes, and returns
// connections whose handshake is done.
type greeter struct {
	net.Listener

	server  *Server
	greeted chan net.Conn
	failed  chan error    // the error of Accept; at most a single error
	done    chan struct{} // closed by Close
	close   func() error  // runs once
	ended   chan struct{} // closed when acceptLoop has ended
}

// newGreeter starts a goroutine that accepts. It ends after Close, or when accept fails.
func newGreeter(s *Server, l net.Listener) *greeter {
	g := &greeter{
		Listener: l, server: s, greeted: make(chan net.Conn),
		failed: make(chan error, 1), done: make(chan struct{}), ended: make(chan struct{}),
	}
	g.close = sync.OnceValue(func() error {
		close(g.done)
		return l.Close()
	})
	go g.acceptLoop()
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

// Close ends Accept. Connections whose handshake ends later are closed.
func (g *greeter) Close() error { return g.close() }

// closeAndWait closes the greeter and returns when its goroutine accepts no more.
func (g *greeter) closeAndWait() {
	_ = g.Close()
	<-g.ended
}

func (g *greeter) acceptLoop() {
	defer close(g.ended)
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			g.failed <- err
			return
		}
		if !g.server.enterHandshake() {
			g.server.lobby.Find(conn).Leave(lobby.Ended)
			_ = netpoll.Unwrap(conn).Close()
			continue
		}
		go func() {
			defer g.server.goroutines.Done()
			g.greetClient(conn.(*tls.Conn))
		}()
	}
}

// greetClient does a handshake and hands the connection to net/http.
func (g *greeter) greetClient(conn *tls.Conn) {
	stranger := g.server.lobby.Find(conn)
	if err := g.server.line.runHandshake(conn, stranger,
		g.server.config.HandshakeTimeout); err != nil {
		g.server.metrics.tlsFailed.Inc()
		g.server.config.Logger.Debug("TLS handshake failed",
			slog.Any("error", err), slog.String("remote_address", conn.RemoteAddr().String()))
		answerPlainText(err)
		stranger.Leave(lobby.Ended)
		_ = netpoll.Unwrap(conn).Close()
		return
	}
	g.server.metrics.tlsDone.Inc()
	select {
	case g.greeted <- conn:
	case <-g.done:
		stranger.Leave(lobby.Ended)
		_ = netpoll.Unwrap(conn).Close()
	}
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
