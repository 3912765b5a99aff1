package opening

import (
	"context"
	"net"
	"sync"
	"time"
)

// clientContext ends when the client hangs up before its request is answered.
//
// Problem: to see the end of a client, a goroutine must read. That costs a start, a wake-up and two
// deadlines, and hardly any request waits long enough to need it.
//
// Outline: the goroutine starts when Done is first called. The bytes that it reads are kept: they
// belong to the first frame.
type clientContext struct {
	conn net.Conn // static

	mu       sync.Mutex
	done     chan struct{} // closed when the client has hung up; nil: Done was not called
	gone     bool
	stopping bool          // the request is answered
	ended    chan struct{} // closed when the goroutine has ended; nil: none was started
	ahead    []byte        // of the goroutine until ended is closed
}

var _ context.Context = (*clientContext)(nil)

// Deadline returns false: the context has none.
func (*clientContext) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value returns nil.
func (*clientContext) Value(any) any { return nil }

// Err returns context.Canceled if the client has hung up.
func (c *clientContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return context.Canceled
	}
	return nil
}

// Done returns a channel that is closed when the client hangs up.
func (c *clientContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if !c.stopping {
			c.ended = make(chan struct{})
			_ = c.conn.SetReadDeadline(time.Time{}) // fails on a closed connection, as Read will
			go c.watchClient()
		}
	}
	return c.done
}

// mostAhead is how many bytes behind its request a client may send before it has the answer. It
// should send none (RFC 6455 section 4.1).
const mostAhead = 512

// watchClient finds the end of the client. It reads on meanwhile: the end may lie behind bytes. A
// client that sends too many bytes is taken for gone, because its end could not be found.
func (c *clientContext) watchClient() {
	defer close(c.ended)
	b, n := make([]byte, mostAhead), 0
	for err := error(nil); err == nil && n < mostAhead; {
		var more int
		more, err = c.conn.Read(b[n:])
		n += more
	}
	c.ahead = b[:n]
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopping {
		c.gone = true
		close(c.done)
	}
}

// stopWatching ends the goroutine, and returns the bytes that it has read.
func (c *clientContext) stopWatching() []byte {
	c.mu.Lock()
	c.stopping = true
	ended := c.ended
	c.mu.Unlock()
	if ended == nil {
		return nil
	}
	_ = c.conn.SetReadDeadline(time.Unix(1, 0)) // wakes the Read
	<-ended
	return c.ahead
}
