package edge

import (
	"time"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/netpoll"
	"github.com/connhub/connhub/hub/edge/wheel"
)

// beat is the heartbeat of a link: it finds a client that has gone silent.
//
// Problem: a client whose network vanished sends nothing. Writing to it succeeds for minutes, into
// the kernel's buffer.
//
// Outline: a wheel checks the link. If the client has shown life since, that is all. Otherwise it
// is pinged, or closed.
//
// A sign of life is a byte of input, or a byte that the kernel had no room for and took later: then
// the client has read. A byte that the kernel takes at once is no sign. Before the heartbeat gives
// a client up, it looks into the client's socket. A process that was stopped while pings were out
// finds the pongs there.
//
// With Config.EndAtExpiry the heartbeat also closes a connection whose token expires. It checks
// such a link in that second at the latest.
type beat struct {
	// Server.sinceStart when the token expires; 0: never; static before startServing
	expires time.Duration
	// owned by CheckLink: the value of Socket.Heard that gets no more time; 0: none
	lent  time.Duration
	place wheel.Place // the wheel's
}

var _ wheel.Link = (*link)(nil)

// lateBy is the delay of a check from which on the hub was late, not its client.
const lateBy = 2 * wheel.Tick

// farthest is longer than any link lives, and small enough to be added to a time.
const farthest = 100 * 365 * 24 * time.Hour

// expireAt sets when the link's connection is closed. A zero t means never.
func (b *beat) expireAt(t time.Time, now time.Duration) {
	if !t.IsZero() {
		b.expires = max(1, now+min(time.Until(t), farthest))
	}
}

// beforeExpiry returns the time of a check, not later than the token expires.
func (b *beat) beforeExpiry(due time.Duration) time.Duration {
	if b.expires != 0 {
		return min(due, b.expires)
	}
	return due
}

// CheckLink pings a link that has been silent for too long. It closes the link if the ping brought
// no sign of life, or if its token has expired. See wheel.Link.
func (l *link) CheckLink(now time.Duration) (again time.Duration) {
	return l.beat.beforeExpiry(l.checkSilence(now))
}

func (l *link) checkSilence(now time.Duration) (again time.Duration) {
	c := &l.server.config
	heard, pinged := l.socket.Heard(), time.Duration(l.pinged.Load())
	switch {
	case l.beat.expires != 0 && now >= l.beat.expires:
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
	case heard != l.beat.lent && l.socket.ShowsLife():
		l.beat.lent = now
		l.socket.NoteLife(now)
		return now + c.PingInterval
	case l.socket.Heard() != heard: // a reader took the input between the two looks
		return now + wheel.Tick
	// The hub was late, and its reader may have taken the input without having noted it yet.
	case heard != l.beat.lent && now-pinged >= c.PongTimeout+lateBy:
		l.beat.lent = heard
		return now + netpoll.Reprieve
	default:
		l.Close(cause.PingTimeout.CloseStatus())
		return now + c.PingInterval
	}
}
