package edge

import (
	"crypto/tls"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"

	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/hub/edge/netpoll"
	"github.com/connhub/connhub/hub/edge/opening"
)

// greeter is the listener that net/http has. It does the handshakes of TLS, and serves the requests
// of clients for a WebSocket. It returns connections with any different request.
type greeter struct {
	net.Listener

	server  *Server
	sealed  bool // its connections come from NewTLSListener
	greeted chan net.Conn
	failed  chan error    // the error of Accept; at most a single error
	done    chan struct{} // closed by Close
	close   func() error  // runs once
	ended   chan struct{} // closed when acceptLoop has ended
}

// newGreeter starts a goroutine that accepts. It ends after Close, or when accept fails.
func newGreeter(s *Server, l net.Listener, sealed bool) *greeter {
	g := &greeter{
		Listener: l, server: s, sealed: sealed, greeted: make(chan net.Conn),
		failed: make(chan error, 1), done: make(chan struct{}), ended: make(chan struct{}),
	}
	g.close = sync.OnceValue(func() error {
		close(g.done)
		return l.Close()
	})
	go g.acceptLoop()
	return g
}

// Accept returns the next connection for net/http.
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

// Close ends Accept. Connections whose request comes later are closed.
func (g *greeter) Close() error { return g.close() }

// closeAndWait closes the greeter and returns when its goroutine accepts no more.
func (g *greeter) closeAndWait() {
	_ = g.Close()
	<-g.ended
}

func (g *greeter) acceptLoop() {
	defer close(g.ended)
	crew := opening.NewCrew()
	defer crew.Close()
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			g.failed <- err
			return
		}
		stranger := g.server.lobby.Find(conn)
		if !g.server.enterHandshake() {
			dropStranger(conn, stranger)
			continue
		}
		crew.Go(func() {
			defer g.server.goroutines.Done()
			g.greetClient(conn, stranger)
		})
	}
}

// dropStranger ends a connection without an answer.
func dropStranger(conn net.Conn, s *lobby.Stranger) {
	s.Leave(lobby.Ended)
	_ = netpoll.Unwrap(conn).Close()
}

// greetClient does the handshake of TLS, reads the first request, and serves the request or hands
// the connection to net/http.
func (g *greeter) greetClient(conn net.Conn, stranger *lobby.Stranger) {
	s := g.server
	defer func() { // as net/http does
		if p := recover(); p != nil {
			s.config.Logger.Error("handshake panicked",
				slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
			dropStranger(conn, stranger)
		}
	}()
	if g.sealed && !s.secureClient(conn.(*tls.Conn), stranger) {
		dropStranger(conn, stranger)
		return
	}
	request, rest, err := opening.Read(conn, stranger, s.config.HandshakeTimeout, isClientPath,
		s.isServing)
	switch {
	case err != nil:
		dropStranger(conn, stranger)
	case request != nil:
		stranger.Serve()
		s.serveUpgrade(request)
	default:
		select {
		case g.greeted <- rest:
		case <-g.done:
			dropStranger(conn, stranger)
		}
	}
}

// secureClient does the handshake of TLS. It returns false if that failed.
func (s *Server) secureClient(conn *tls.Conn, stranger *lobby.Stranger) bool {
	err := s.line.runHandshake(conn, stranger, s.config.HandshakeTimeout)
	if err == nil {
		s.metrics.tlsDone.Inc()
		return true
	}
	s.metrics.tlsFailed.Inc()
	s.config.Logger.Debug("TLS handshake failed",
		slog.Any("error", err), slog.String("remote_address", conn.RemoteAddr().String()))
	answerPlainText(err)
	return false
}

// serveUpgrade answers a request without net/http's server.
func (s *Server) serveUpgrade(r *opening.Request) {
	defer r.Finish(responseTimeout)
	s.routeRequest(r, r.HTTP())
}
