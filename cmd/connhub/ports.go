package main

import (
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// refuseLogEvery is the least time between two lines about connections that were refused at a port.
const refuseLogEvery = 10 * time.Second

// cappedListener closes connections above a limit at once: its callers come again, and hear of it sooner than if they waited.
type cappedListener struct {
	net.Listener

	// Static.
	port    string // its name in the log
	most    int64
	logger  *slog.Logger
	refused prometheus.Counter

	open atomic.Int64 // connections

	// Owned by the goroutine that calls Accept.
	logged time.Time
}

// Accept returns the next connection for which there is room. Errors of accept that pass are logged at Warn.
func (l *cappedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			if temporary, ok := err.(interface{ Temporary() bool }); ok && temporary.Temporary() {
				if l.mayLog() {
					l.logger.Warn("accept failed", slog.String("port", l.port), slog.Any("error", err))
				}
			}
			return nil, err //nolint:wrapcheck // gRPC looks at it, and tries again
		}
		if l.open.Add(1) <= l.most {
			return &cappedConn{Conn: conn, left: sync.OnceFunc(func() { l.open.Add(-1) })}, nil
		}
		l.open.Add(-1)
		l.refused.Inc()
		_ = conn.Close()
		if l.mayLog() {
			l.logger.Warn("connection limit of the port reached: connections are closed",
				slog.String("port", l.port), slog.Int64("limit", l.most))
		}
	}
}

// mayLog reports whether the last line is long enough ago. The metrics count what is not logged.
func (l *cappedListener) mayLog() bool {
	now := time.Now()
	if !l.logged.IsZero() && now.Sub(l.logged) < refuseLogEvery {
		return false
	}
	l.logged = now
	return true
}

type cappedConn struct {
	net.Conn

	left func()
}

// Close closes the connection and makes room for another.
func (c *cappedConn) Close() error {
	defer c.left()
	return c.Conn.Close() //nolint:wrapcheck // is the connection
}
