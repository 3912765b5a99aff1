package mesh

import (
	"log/slog"
	"sync"
	"time"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

const (
	// refusalInterval is the least time between two lines about hellos of one hub that are refused for one reason. A hub that
	// is refused dials again every 5 s, for as long as it lives.
	refusalInterval = time.Minute
	// refusalsKept bounds the hubs and reasons that are told apart. Then all are new again.
	refusalsKept = 256
)

// refusalLog logs hellos that are refused: the first of a hub and reason, then a summary each refusalInterval. It is safe for
// concurrent use. The zero value is ready to use.
type refusalLog struct {
	mu   sync.Mutex
	seen map[refusedHub]*refusals
}

type refusedHub struct {
	hub    hub.ID
	reason peerv1.RefusalReason
}

// refusals are those of one hub, for one reason.
type refusals struct {
	said   time.Time // when there was a line
	unsaid int       // since then
}

func (l *refusalLog) log(logger *slog.Logger, id hub.ID, reason peerv1.RefusalReason) {
	if repeats, say := l.note(refusedHub{id, reason}); say {
		logger.Info("hello refused", slog.String("hub", string(id)), slog.String("reason", nameOf(reason)), slog.Int("repeats", repeats))
	}
}

// note counts a refusal, and reports whether it is to be logged, and how many were not since the last line.
func (l *refusalLog) note(of refusedHub) (repeats int, say bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.seen[of]
	switch {
	case r == nil:
		if l.seen == nil || len(l.seen) >= refusalsKept {
			l.seen = make(map[refusedHub]*refusals)
		}
		l.seen[of] = &refusals{said: time.Now()}
		return 0, true
	case time.Since(r.said) < refusalInterval:
		r.unsaid++
		return 0, false
	}
	repeats = r.unsaid + 1
	*r = refusals{said: time.Now()}
	return repeats, true
}
