package lobby

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/connhub/connhub/internal/repeats"
)

const (
	// retryLeast and retryMost bound the wait after accept failed. The kernel keeps what it has queued.
	retryLeast = 5 * time.Millisecond
	retryMost  = time.Second
	// warnEvery is the least time between two lines about errors of accept.
	warnEvery = 10 * time.Second
)

// listener is what Listener returns. One goroutine calls Accept.
type listener struct {
	net.Listener

	lobby *Lobby
	done  chan struct{}
	close func() error // once

	// Owned by the goroutine that calls Accept.
	failures repeats.Counter[struct{}]
	waiting  time.Duration
}

// Listener returns a listener whose connections enter the lobby. Attach, or the caller itself, has them leave. Only one
// goroutine may call its Accept.
func (l *Lobby) Listener(inner net.Listener) net.Listener {
	ln := &listener{Listener: inner, lobby: l, done: make(chan struct{})}
	ln.close = sync.OnceValue(func() error {
		close(ln.done)
		return inner.Close()
	})
	return ln
}

// Accept returns the next connection, when the lobby has room for it.
func (ln *listener) Accept() (net.Conn, error) {
	for {
		conn, err := ln.Listener.Accept()
		switch {
		case err == nil:
			ln.waiting = 0
			s := ln.lobby.enter(conn)
			s.Serve() // it does not keep the hub waiting as long as its server does not know it
			if !ln.lobby.makeRoom(s, ln.done) {
				s.Leave(Ended)
				_ = bottom(conn).Close()
				return nil, net.ErrClosed
			}
			s.Wait()
			return conn, nil
		case !isTemporary(err):
			return nil, err //nolint:wrapcheck // http.Server looks at it
		}
		ln.warn(err)
		ln.waiting = min(max(2*ln.waiting, retryLeast), retryMost)
		select {
		case <-time.After(ln.waiting):
		case <-ln.done:
			return nil, fmt.Errorf("accept: %w", net.ErrClosed)
		}
	}
}

// isTemporary reports whether another accept may succeed: net calls errors so of which the process, and not the socket, is
// the cause, like EMFILE, and those of a client that has left, like ECONNABORTED.
func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

func (ln *listener) warn(err error) {
	ln.lobby.metrics.acceptErrors.Inc()
	if n, say := ln.failures.Note(struct{}{}, warnEvery); say {
		ln.lobby.config.Logger.Warn("accept failed",
			slog.String("port", ln.lobby.config.Port), slog.Any("error", err), slog.Int("not_logged", max(n-1, 0)))
	}
}

// Close ends Accept. Only the first call counts.
func (ln *listener) Close() error { return ln.close() }
