package hub

import (
	"time"

	"github.com/connhub/connhub/hub/cause"
)

// startTimerLocked closes the connection, which is numbered, after d, unless stopTimerLocked comes
// first. If the client may have been in time while the hub was late, the client gets returnPatience
// more.
func (c *Connection) startTimerLocked(d time.Duration, why cause.Cause) {
	c.armTimerLocked(d, why, why != cause.TokenExpired)
}

// armTimerLocked starts the timer. patient says that it may start again.
func (c *Connection) armTimerLocked(d time.Duration, why cause.Cause, patient bool) {
	due := time.Now().Add(max(d, 0))
	var t *time.Timer
	t = time.AfterFunc(d, func() { c.timeOver(&t, why, patient && c.mayBeInTime(due)) })
	c.numbering.timer = t
}

// stallNoticed is the delay of a timer from which on the hub takes the delay for its own fault:
// then input that clients sent in time may be unread.
const stallNoticed = 100 * time.Millisecond

// mayBeInTime reports whether the client may have acted before due: the process did not run then,
// or the link has not read all input.
func (c *Connection) mayBeInTime(due time.Time) bool {
	if time.Since(due) > stallNoticed {
		return true
	}
	c.mu.Lock()
	link := c.link
	c.mu.Unlock()
	return link != nil && link.Stirs()
}

// timeOver handles the expiry of the timer t. With again it starts the timer once more.
func (c *Connection) timeOver(t **time.Timer, why cause.Cause, again bool) {
	c.mu.Lock()
	if c.numbering.timer != *t {
		c.mu.Unlock()
		return // stopped while it fired
	}
	if again {
		c.armTimerLocked(min(returnPatience, c.hub().config.AckTimeout), why, false)
		c.mu.Unlock()
		return
	}
	link := c.closeLocked(why.CloseStatus())
	c.mu.Unlock()
	c.closeLink(link, why.CloseStatus())
}

func (c *Connection) stopTimerLocked() {
	if n := c.numbering; n != nil && n.timer != nil {
		n.timer.Stop()
		n.timer = nil
	}
}

// returnPatience is how long a client that comes back may take to confirm something, however long
// its tail was full. Its first acks come within a second or two of the messages that the link
// writes again.
const returnPatience = 5 * time.Second

// patienceLocked returns how long the tail may still be full. A client that comes back after the
// deadline has returnPatience, but not over and over. A link that was lost in time can be resumed
// for as long as the resume window, and no longer.
func (c *Connection) patienceLocked() time.Duration {
	config := &c.hub().config
	left := time.Until(c.numbering.patient)
	again := min(returnPatience, config.AckTimeout)
	return max(left, min(again, left+config.ResumeWindow+again))
}
