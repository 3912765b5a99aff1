package edge

import (
	"sync"
	"time"

	"github.com/connhub/connhub/hub/cause"
)

// heartbeat finds clients that have gone silent.
//
// Problem: a client whose network vanished sends nothing. Writing to it succeeds for minutes, into
// the kernel's buffer. A timer for each link would be a million timers, moved with each byte of
// input.
//
// Outline: a wheel with a slot for each second. A link is in the slot of the second in which the
// heartbeat checks it next. If the link has shown life since, it moves on to the second in which
// its silence would be long enough. Otherwise it is pinged, or closed. So an active link costs a
// check for each PingInterval, and noting a sign of life is an atomic store.
//
// A sign of life is a byte of input, or a byte that the kernel had no room for and took later: then
// the client has read. A byte that the kernel takes at once is no sign. Before the heartbeat gives
// a client up, it looks into the client's socket. A process that was stopped while pings were out
// finds the pongs there.
//
// With Config.EndAtExpiry the heartbeat also closes connections whose token expires. It checks such
// a link in that second at the latest.
//
// Its goroutine runs while there are links.
type heartbeat struct {
	server *Server // for its clock, config and goroutines

	mu       sync.Mutex
	slots    []*link // heads of lists, linked by link.beat
	second   int     // the last second whose slot was checked, since Server.started
	links    int
	stop     chan struct{} // ends the goroutine; nil: no goroutine runs
	aborting bool
}

// beat is a link's place in the wheel.
type beat struct {
	next, previous *link
	slot           int32
	in             bool // in a slot; false while the link is being checked
	gone           bool // removed for good
}

func newHeartbeat(s *Server) *heartbeat {
	longest := s.config.PingInterval + s.config.PongTimeout
	return &heartbeat{server: s, slots: make([]*link, int(longest/tick)+3)}
}

// addLink puts a new link into the wheel. The server counts the heartbeat's goroutine.
func (h *heartbeat) addLink(l *link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links++
	if h.stop == nil {
		stop := make(chan struct{})
		h.stop = stop
		h.second = int(h.server.sinceStart() / tick)
		h.server.goroutines.Go(func() { h.turnWheel(stop) })
	}
	h.insertLocked(l, h.server.sinceStart()+h.server.config.PingInterval)
}

// farthest is longer than any link lives, and small enough to be added to a time.
const farthest = 100 * 365 * 24 * time.Hour

// expireAt sets when the link's connection is closed. A zero t means never. It must be called
// before heartbeat.addLink.
func (l *link) expireAt(t time.Time) {
	if !t.IsZero() {
		l.expires = max(1, l.server.sinceStart()+min(time.Until(t), farthest))
	}
}

// removeLink takes a link out of the wheel for good.
func (h *heartbeat) removeLink(l *link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.links--; h.links == 0 {
		close(h.stop)
		h.stop = nil
	}
	l.beat.gone = true
	if !l.beat.in {
		return
	}
	if l.beat.previous != nil {
		l.beat.previous.beat.next = l.beat.next
	} else {
		h.slots[l.beat.slot] = l.beat.next
	}
	if l.beat.next != nil {
		l.beat.next.beat.previous = l.beat.previous
	}
	l.beat.next, l.beat.previous, l.beat.in = nil, nil, false
}

// insertLocked puts l into the slot of the first second that begins at or after due.
func (h *heartbeat) insertLocked(l *link, due time.Duration) {
	if l.beat.gone {
		return
	}
	if h.aborting {
		l.abortLink()
	}
	if l.expires != 0 {
		due = min(due, l.expires)
	}
	second := int((due + tick - 1) / tick)
	second = min(max(second, h.second+1), h.second+len(h.slots)-1)
	slot := int32(second % len(h.slots))
	head := h.slots[slot]
	l.beat = beat{next: head, slot: slot, in: true}
	if head != nil {
		head.beat.previous = l
	}
	h.slots[slot] = l
}

// turnWheel checks the links of each slot when its second has come, until stop is closed.
func (h *heartbeat) turnWheel(stop <-chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var due []*link
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
		}
		for {
			var more bool
			if due, more = h.takeDue(due); !more {
				break
			}
			h.checkLinks(due)
			clear(due) // so that due does not keep ended links alive
		}
	}
}

// takeDue takes all links out of the next slot whose second has come. It returns false if there is
// no such slot.
func (h *heartbeat) takeDue(due []*link) ([]*link, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	due = due[:0]
	if h.second >= int(h.server.sinceStart()/tick) {
		return due, false
	}
	h.second++
	slot := h.second % len(h.slots)
	for l := h.slots[slot]; l != nil; {
		next := l.beat.next
		l.beat = beat{}
		due = append(due, l)
		l = next
	}
	h.slots[slot] = nil
	return due, true
}

// checkLinks checks the links of a slot. It does not hold the lock meanwhile, because pinging
// writes.
func (h *heartbeat) checkLinks(links []*link) {
	for _, l := range links {
		again := h.checkLink(l)
		h.mu.Lock()
		h.insertLocked(l, again)
		h.mu.Unlock()
	}
}

// checkLink pings a link that has been silent for too long. It closes the link if the ping brought
// no sign of life, or if its token has expired. It returns when to check again.
func (h *heartbeat) checkLink(l *link) time.Duration {
	c, now := &h.server.config, h.server.sinceStart()
	heard, pinged := l.socket.Heard(), time.Duration(l.pinged.Load())
	switch {
	case l.expires != 0 && now >= l.expires:
		// The connection ends at once. Its link says goodbye meanwhile.
		l.connection.Close(cause.TokenExpired.CloseStatus())
		return now + c.PingInterval
	case now-heard < c.PingInterval:
		return heard + c.PingInterval
	case pinged <= heard: // no ping since then
		l.sendPing()
		return now + c.PongTimeout
	case now-pinged < c.PongTimeout:
		return pinged + c.PongTimeout
	// The hub was late: unread input is a sign of life, once. A link that does not read it until
	// the next check waits for its client, and gets no second time.
	case heard != l.lent && l.socket.ShowsLife():
		l.lent = now
		l.socket.NoteLife(now)
		return now + c.PingInterval
	default:
		l.Close(cause.PingTimeout.CloseStatus())
		return now + c.PingInterval
	}
}

// abortAll ends the sockets of all links, present and future.
func (h *heartbeat) abortAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.aborting = true
	for _, l := range h.slots {
		for ; l != nil; l = l.beat.next {
			l.abortLink()
		}
	}
}
