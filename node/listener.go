package node

import (
	"log/slog"
	"net"
	"time"

	"github.com/connhub/connhub/internal/repeats"
)

// acceptLogEvery is the least time between two lines about errors of accept.
const acceptLogEvery = 10 * time.Second

// watchedListener logs errors of accept at Warn, because gRPC's server retries them silently. It
// does not change the connections.
type watchedListener struct {
	net.Listener

	// Static.
	port   string // its name in the log
	logger *slog.Logger

	failures repeats.Counter[struct{}] // of accept
}

// Accept returns the next connection.
func (l *watchedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if temporary, ok := err.(interface{ Temporary() bool }); ok && temporary.Temporary() {
		if n, say := l.failures.Note(struct{}{}, acceptLogEvery); say {
			l.logger.Warn("accept failed",
				slog.String("port", l.port), slog.Any("error", err),
				slog.Int("not_logged", max(n-1, 0)))
		}
	}
	return conn, err //nolint:wrapcheck // gRPC looks at it
}
