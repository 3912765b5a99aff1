package logging

import (
	"log/slog"
	"time"

	"github.com/connhub/connhub/hub"
)

// CloseLog writes a summary line for each closed connection, within the log's rates.
type CloseLog struct {
	Logger *slog.Logger // gets the lines
}

// Applied is called by the hub under the connection's lock. The log does not block it.
func (l CloseLog) Applied(c *hub.Connection, op hub.Op) {
	if op.Kind != hub.OpClose {
		return
	}
	identity := c.Identity()
	l.Logger.Info("connection closed",
		slog.String("connection", string(identity.ID)),
		slog.String("namespace", identity.Namespace),
		slog.String("user", identity.User),
		slog.String("protocol", identity.Protocol),
		slog.String("remote_address", identity.RemoteAddress),
		slog.Duration("lasted", time.Since(identity.Created).Round(time.Millisecond)),
		slog.String("cause", op.Close.Cause.String()),
		slog.Int("code", int(op.Close.Code)),
		slog.String("reason", op.Close.Reason))
}
