package mesh

import (
	"log/slog"
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/repeats"
)

// refusalInterval is the least time between two log lines about refused hellos of the same hub and
// reason. A refused hub dials again every 5 s, for as long as it lives.
const refusalInterval = time.Minute

// refusalLog logs refused hellos: the first of a hub and reason, then a summary each
// refusalInterval. It is safe for concurrent use. The zero value is ready to use.
type refusalLog struct{ counter repeats.Counter[refusedHub] }

type refusedHub struct {
	hub    hub.ID
	reason peerv1.RefusalReason
}

func (l *refusalLog) logRefusal(logger *slog.Logger, id hub.ID, reason peerv1.RefusalReason) {
	if n, say := l.counter.Note(refusedHub{id, reason}, refusalInterval); say {
		logger.Info("hello refused", slog.String("hub", string(id)),
			slog.String("reason", nameOf(reason)), slog.Int("repeats", n))
	}
}
