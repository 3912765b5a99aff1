package core

import (
	"slices"
	"time"

	"github.com/connhub/connhub/hub"
)

// maxLapses bounds the forgotten hubs that are remembered: some 100 bytes each. The oldest go
// first.
const maxLapses = maxMembers

// lapses remembers the hubs that this hub has counted as members and has forgotten while it served
// backends. A hub is removed once a link has told it so. See verdict.go. The zero value is empty.
type lapses struct {
	of    map[hub.ID]lapse
	order []hub.ID // oldest first
}

// lapse is a time in which a hub was not counted as a member.
type lapse struct {
	began  time.Duration
	silent bool // sends may have missed the hub and not said so
}

// noteForgotten notes that a hub is forgotten.
func (l *lapses) noteForgotten(id hub.ID, now time.Duration) {
	if l.of == nil {
		l.of = make(map[hub.ID]lapse)
	}
	before, known := l.of[id]
	l.of[id] = lapse{began: now, silent: before.silent}
	if known {
		return
	}
	l.order = append(l.order, id)
	if len(l.order) > maxLapses {
		delete(l.of, l.order[0])
		l.order = l.order[1:]
	}
}

// noteCounted notes since when a hub counts again. That may be before the hub was forgotten: a send
// that reports that etcd is silent does not miss the hub silently.
func (l *lapses) noteCounted(id hub.ID, since time.Duration) {
	if lapse, known := l.of[id]; known {
		lapse.silent = lapse.silent || since > lapse.began
		l.of[id] = lapse
	}
}

// missedSilently reports whether sends may have missed a hub since its latest link with this hub.
func (l *lapses) missedSilently(id hub.ID) bool { return l.of[id].silent }

// clearLapse removes a hub that was told.
func (l *lapses) clearLapse(id hub.ID) {
	if _, known := l.of[id]; known {
		delete(l.of, id)
		l.order = slices.DeleteFunc(l.order, func(other hub.ID) bool { return other == id })
	}
}
