package main

import (
	"log/slog"
	"net"
	"time"
)

// acceptLogEvery is the least time between two lines about errors of accept.
const acceptLogEvery = 10 * time.Second

// watchedListener logs errors of accept at Warn that its server, gRPC, retries without a word. What it accepts it leaves as it is.
type watchedListener struct {
	net.Listener

	// Static.
	port   string // its name in the log
	logger *slog.Logger

	logged time.Time // owned by the goroutine that calls Accept
}

// Accept returns the next connection.
func (l *watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if temporary, ok := err.(interface{ Temporary() bool }); ok && temporary.Temporary() {
		if now := time.Now(); l.logged.IsZero() || now.Sub(l.logged) >= acceptLogEvery {
			l.logged = now
			l.logger.Warn("accept failed", slog.String("port", l.port), slog.Any("error", err))
		}
	}
	return conn, err //nolint:wrapcheck // gRPC looks at it
}
