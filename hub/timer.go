package hub

import (
	"time"

	"github.com/connhub/connhub/hub/cause"
)

// startTimerLocked closes the connection, which is numbered, after d, unless stopTimerLocked comes first. A client that may
// have been in time, while the hub was not, has returnPatience more.
func (c *Connection) startTimerLocked(d time.Duration, why cause.Cause) {
	c.armTimerLocked(d, why, why != cause.TokenExpired)
}

// armTimerLocked starts the timer; patient says that it may be started again.
func (c *Connection) armTimerLocked(d time.Duration, why cause.Cause, patient bool) {
	due := time.Now().Add(max(d, 0))
	var t *time.Timer
	t = time.AfterFunc(d, func() { c.timeOver(&t, why, patient && c.mayBeInTime(due)) })
	c.numbering.timer = t
}

// stallNoticed is how late a timer may be before the hub takes it for its own fault: then what clients sent in time may be unread.
const stallNoticed = 100 * time.Millisecond

// mayBeInTime reports whether the client may have done before due what it was given time for: the process did not run then, or the
// link has not read all that has come.
func (c *Connection) mayBeInTime(due time.Time) bool {
	if time.Since(due) > stallNoticed {
		return true
	}
	c.mu.Lock()
	link := c.link
	c.mu.Unlock()
	return link != nil && link.Stirs()
}

// timeOver is what the timer t does. again: it starts once more.
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

// returnPatience is how long a client that comes back may take to confirm something, however long its tail was full: its first acks
// come within a second or two of what is written again.
const returnPatience = 5 * time.Second

// patienceLocked is how long the tail may still be full. Who comes back when that is over has returnPatience, but not over and over: a link
// that was lost in time can be resumed for as long as the resume window, and no longer.
func (c *Connection) patienceLocked() time.Duration {
	config := &c.hub().config
	left := time.Until(c.numbering.patient)
	again := min(returnPatience, config.AckTimeout)
	return max(left, min(again, left+config.ResumeWindow+again))
}
