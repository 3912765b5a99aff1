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
	// retryLeast and retryMost bound the wait after a failed accept. Meanwhile the kernel keeps its
	// queue of connections.
	retryLeast = 5 * time.Millisecond
	retryMost  = time.Second
	// warnEvery is the least time between two log lines about failed accepts.
	warnEvery = 10 * time.Second
)

// listener adds the lobby to a net.Listener. Only a single goroutine may call Accept.
type listener struct {
	net.Listener

	lobby *Lobby
	done  chan struct{}
	close func() error // closes done and the inner listener, only the first time

	// Owned by the goroutine that calls Accept.
	failures repeats.Counter[struct{}] // decides which failures get a log line
	waiting  time.Duration             // the last wait after a failed accept; 0 after a success
}

// Listener returns a listener that takes its connections into the lobby. The server of Attach takes
// them out; without Attach the caller must call Leave. Only a single goroutine may call Accept.
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
			s := ln.lobby.addStranger(conn)
			s.Serve() // it does not keep the hub waiting before its server knows it
			if !ln.lobby.makeRoom(s, ln.done) {
				s.Leave(Ended)
				_ = bottomConn(conn).Close()
				return nil, net.ErrClosed
			}
			s.Wait()
			return conn, nil
		case !isTemporary(err):
			return nil, err //nolint:wrapcheck // http.Server looks at it
		}
		ln.logFailure(err)
		ln.waiting = min(max(2*ln.waiting, retryLeast), retryMost)
		select {
		case <-time.After(ln.waiting):
		case <-ln.done:
			return nil, fmt.Errorf("accept: %w", net.ErrClosed)
		}
	}
}

// isTemporary reports whether a later accept may succeed. Package net calls these errors temporary:
// those with a cause in the process and not in the socket, like EMFILE, and those of a client that
// has left, like ECONNABORTED.
func isTemporary(err error) bool {
	var temporary interface{ Temporary() bool }
	return errors.As(err, &temporary) && temporary.Temporary()
}

// logFailure counts a failed accept, and logs it unless it has logged within warnEvery.
func (ln *listener) logFailure(err error) {
	ln.lobby.metrics.acceptErrors.Inc()
	n, say := ln.failures.Note(struct{}{}, warnEvery)
	if !say {
		return
	}
	ln.lobby.config.Logger.Warn("accept failed",
		slog.String("port", ln.lobby.config.Port), slog.Any("error", err),
		slog.Int("not_logged", max(n-1, 0)))
}

// Close ends Accept. Only the first call counts.
func (ln *listener) Close() error { return ln.close() }
