package edge

import (
	"sync"
	"time"

	"github.com/connhub/connhub/hub/cause"
)

// heartbeat finds clients that have gone without a word.
//
// Problem: a client whose network vanished sends nothing, and writing to it succeeds for minutes, into the
// kernel's buffer. A timer for each link would be a million timers, moved with each byte that comes in.
//
// Outline: a wheel of one slot a second. A link is in the slot of the second in which it must be looked at
// next. When that comes, and it has shown life since, it moves on to where its silence would be long enough;
// otherwise it is pinged, or closed. So an active link costs one look each PingInterval, and noting a
// sign of life is one atomic store.
//
// A sign of life is a byte that came in, or that the kernel had no room for and took later: then the client
// has read. That the kernel takes a byte at once says nothing. Before a client is given up the heartbeat looks into its socket: a
// process that was stopped, with pings out, finds the pongs there.
//
// It also closes connections whose token expires, where that is wanted: then such a link is looked at in that second at the latest.
//
// Its goroutine runs while there are links.
type heartbeat struct {
	server *Server // for its clock, config and goroutines

	mu       sync.Mutex
	slots    []*link // heads of lists, linked by link.beat
	second   int     // the last one whose slot was looked at, since Server.started
	links    int
	stop     chan struct{} // ends the goroutine; nil: none runs
	aborting bool
}

// beat is a link's place in the wheel.
type beat struct {
	next, previous *link
	slot           int32
	in             bool // in a slot; not while it is being looked at
	gone           bool // removed for good
}

func newHeartbeat(s *Server) *heartbeat {
	longest := s.config.PingInterval + s.config.PongTimeout
	return &heartbeat{server: s, slots: make([]*link, int(longest/tick)+3)}
}

// add puts a new link into the wheel. Its goroutine is counted by the server.
func (h *heartbeat) add(l *link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.links++
	if h.stop == nil {
		stop := make(chan struct{})
		h.stop = stop
		h.second = int(h.server.now() / tick)
		h.server.goroutines.Go(func() { h.run(stop) })
	}
	h.insertLocked(l, h.server.now()+h.server.config.PingInterval)
}

// farthest is beyond every link's life, and small enough to be added to.
const farthest = 100 * 365 * 24 * time.Hour

// expireAt closes a link's connection at a time, which add looks at; zero: never.
func (l *link) expireAt(t time.Time) {
	if !t.IsZero() {
		l.expires = max(1, l.server.now()+min(time.Until(t), farthest))
	}
}

// remove takes a link out of the wheel for good.
func (h *heartbeat) remove(l *link) {
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

// insertLocked puts l where it is looked at in the first second that begins at or after due.
func (h *heartbeat) insertLocked(l *link, due time.Duration) {
	if l.beat.gone {
		return
	}
	if h.aborting {
		l.abort()
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

// run turns the wheel.
func (h *heartbeat) run(stop <-chan struct{}) {
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
			h.look(due)
			clear(due) // or links that ended would be kept
		}
	}
}

// takeDue takes all links out of the next slot whose second has come; false: none has.
func (h *heartbeat) takeDue(due []*link) ([]*link, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	due = due[:0]
	if h.second >= int(h.server.now()/tick) {
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

// look sees to the links of a slot, without the lock: pinging writes.
func (h *heartbeat) look(links []*link) {
	for _, l := range links {
		again := h.check(l)
		h.mu.Lock()
		h.insertLocked(l, again)
		h.mu.Unlock()
	}
}

// check pings a link that has been silent for too long, or closes it when that brought no sign of life or its token has expired,
// and returns when to look again.
func (h *heartbeat) check(l *link) time.Duration {
	c, now := &h.server.config, h.server.now()
	heard, pinged := time.Duration(l.heard.Load()), time.Duration(l.pinged.Load())
	switch {
	case l.expires != 0 && now >= l.expires:
		l.connection.Close(cause.TokenExpired.CloseStatus()) // and with it the link, but without waiting for the client
		return now + c.PingInterval
	case now-heard < c.PingInterval:
		return heard + c.PingInterval
	case pinged <= heard: // not since then
		l.ping()
		return now + c.PongTimeout
	case now-pinged < c.PongTimeout:
		return pinged + c.PongTimeout
	case heard != l.lent && l.socket.stirs(): // the hub was late; but if it reads nothing of that, for it waits for the client, that is it
		l.lent = now
		l.heard.Store(int64(now))
		return now + c.PingInterval
	default:
		l.Close(cause.PingTimeout.CloseStatus())
		return now + c.PingInterval
	}
}

// abortAll ends the sockets of all links, now and to come.
func (h *heartbeat) abortAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.aborting = true
	for _, l := range h.slots {
		for ; l != nil; l = l.beat.next {
			l.abort()
		}
	}
}
