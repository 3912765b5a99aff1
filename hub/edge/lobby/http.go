package lobby

import (
	"context"
	"net"
	"net/http"
	"time"
)

// bodyLinger is how long the hub reads what is left of a request's body after the handler has answered. It gives the client the
// time to read the answer: a socket that is closed with unread bytes is reset.
const bodyLinger = 500 * time.Millisecond

// strangerKey is the context key under which a request has its Stranger.
type strangerKey struct{}

// Attach has a server tell the lobby what becomes of its connections, which must come from Listener. It sets ConnState,
// ConnContext and Handler, and has net/http answer nothing by itself that it can leave to the handler.
func (l *Lobby) Attach(server *http.Server) {
	server.DisableGeneralOptionsHandler = true // it keeps sockets alive on "OPTIONS *"
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return context.WithValue(ctx, strangerKey{}, l.Find(conn))
	}
	server.ConnState = func(conn net.Conn, state http.ConnState) {
		switch state {
		case http.StateHijacked:
			l.Find(conn).Leave(Admitted)
		case http.StateClosed:
			l.Find(conn).Leave(Ended)
		default:
		}
	}
	next := server.Handler
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, _ := r.Context().Value(strangerKey{}).(*Stranger)
		s.Serve()
		defer s.answer()
		if HasBody(r) {
			w.Header().Set("Connection", "close")
			// A writer that has no deadline is a test's.
			defer func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyLinger)) }()
		}
		next.ServeHTTP(w, r)
	})
}

// WaitInLine calls wait while the stranger whose request ctx belongs to waits in line (Stranger.Queue). If the lobby drops the
// stranger, the context of wait ends.
func WaitInLine(ctx context.Context, wait func(context.Context)) {
	s, _ := ctx.Value(strangerKey{}).(*Stranger)
	ctx, cancel := context.WithCancel(ctx)
	gone := s.Queue()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-gone:
			cancel()
		case <-ctx.Done():
		}
	}()
	wait(ctx)
	cancel()
	<-ended
	s.Serve()
}

// HasBody reports whether a request announces a body.
func HasBody(r *http.Request) bool { return r.ContentLength != 0 }
