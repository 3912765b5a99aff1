package lobby

import (
	"context"
	"net"
	"net/http"
	"time"
)

// bodyLinger is the time for which the hub reads the rest of a request's body after the handler has
// answered. The client needs it to read the answer: closing a socket with unread bytes resets it.
const bodyLinger = 500 * time.Millisecond

// strangerKey is the context key of a request's Stranger.
type strangerKey struct{}

// Attach makes a server report the state of its connections to the lobby. The server must accept
// them from Listener. Attach sets ConnState and ConnContext, wraps Handler, and sets
// DisableGeneralOptionsHandler. It must be called before the server starts.
func (l *Lobby) Attach(server *http.Server) {
	server.DisableGeneralOptionsHandler = true // it keeps sockets alive on "OPTIONS *"
	server.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		return WithStranger(ctx, l.Find(conn))
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
		s := StrangerOf(r.Context())
		s.Serve()
		defer s.markAnswered()
		if HasBody(r) {
			w.Header().Set("Connection", "close")
			defer func() {
				// It fails only with the writers of tests, which have no deadline.
				_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyLinger))
			}()
		}
		next.ServeHTTP(w, r)
	})
}

// WithStranger returns a context for the requests of a stranger.
func WithStranger(ctx context.Context, s *Stranger) context.Context {
	return context.WithValue(ctx, strangerKey{}, s)
}

// StrangerOf returns the stranger whose request has the context ctx, or nil.
func StrangerOf(ctx context.Context) *Stranger {
	s, _ := ctx.Value(strangerKey{}).(*Stranger)
	return s
}

// WaitInLine calls wait while the stranger of a request is in line (Stranger.Queue). ctx must be
// the context of the request. If the lobby drops the stranger, the context of wait ends.
func WaitInLine(ctx context.Context, wait func(context.Context)) {
	s := StrangerOf(ctx)
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
	defer func() { // also after a panic
		cancel()
		<-ended
		s.Serve()
	}()
	wait(ctx)
}

// HasBody reports whether a request announces a body.
func HasBody(r *http.Request) bool { return r.ContentLength != 0 }
