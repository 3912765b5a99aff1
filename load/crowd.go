package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// shards is how many parts the counts have: more than cores that matter.
const shards = 8

// Crowd is many clients. Open and Close are called once each, one after the other; all else at any time.
type Crowd struct {
	// Static.
	config     Config
	targets    targets
	handshakes *Histogram
	shards     [shards]shard

	opened  atomic.Int64
	lost    atomic.Int64
	readers sync.WaitGroup // a goroutine of each open client

	mu      sync.Mutex
	clients map[*client]struct{} // that are open
	reason  string               // of the first loss
}

// shard has the counts of some clients.
type shard struct {
	latency                                         *Histogram
	messages, rehearsed, strange, disordered, pings atomic.Int64
}

// Counts is how a crowd stands.
type Counts struct {
	Opened     int   // connections that were opened, ever
	Open       int   // connections that are open
	Lost       int   // connections that ended, and not by Close
	Messages   int64 // that are measured
	Rehearsed  int64 // messages before the measurement
	Strange    int64 // messages that are not of this run
	Disordered int64 // of Messages: those that came after one with a higher sequence, or twice
	Pings      int64 // that were answered
}

// New returns a crowd without an open connection. It raises the process's limit of open files as far as it may.
func New(config Config) (*Crowd, error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	if err := checkFiles(len(config.URLs), raiseFileLimit()); err != nil {
		return nil, err
	}
	c := &Crowd{
		config: config, targets: targets{known: map[string]target{}},
		handshakes: NewHistogram(), clients: make(map[*client]struct{}, len(config.URLs)),
	}
	for i := range c.shards {
		c.shards[i].latency = NewHistogram()
	}
	return c, nil
}

// Open opens all connections. At the first that can't be opened, or when ctx is done, it stops; those that are
// open stay so until Close.
func (c *Crowd) Open(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(c.config.Concurrency, len(c.config.URLs)) {
		workers.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(c.config.URLs) {
					return
				}
				if err := c.open(ctx, i); err != nil {
					cancel(fmt.Errorf("connection %d of %d: %w", i+1, len(c.config.URLs), err))
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// open opens one connection, and has its goroutine read.
func (c *Crowd) open(ctx context.Context, i int) error {
	began := c.config.Stamp.Now()
	conn, rest, err := c.connect(ctx, i)
	if err != nil {
		return err
	}
	c.handshakes.Record(c.config.Stamp.Now() - began)
	one := &client{crowd: c, shard: &c.shards[i%shards], conn: conn}
	c.mu.Lock()
	c.clients[one] = struct{}{}
	c.mu.Unlock()
	c.opened.Add(1)
	c.readers.Go(func() { c.ended(one, one.run(rest)) })
	return nil
}

// ended is called by a client's goroutine when its connection is over.
func (c *Crowd) ended(one *client, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.clients, one)
	if one.leaving.Load() {
		return
	}
	if c.lost.Add(1) == 1 {
		c.reason = lossWords(why)
	}
}

// Close closes all connections: properly those whose server answers in time, the others at once after it.
func (c *Crowd) Close() {
	deadline := time.Now().Add(c.config.CloseTimeout)
	for _, one := range c.all() {
		one.leave(deadline)
	}
	gone := make(chan struct{})
	go func() {
		c.readers.Wait()
		close(gone)
	}()
	limit := time.NewTimer(time.Until(deadline))
	defer limit.Stop()
	select {
	case <-gone:
	case <-limit.C:
		for _, one := range c.all() {
			_ = one.conn.Close()
		}
		<-gone
	}
}

func (c *Crowd) all() []*client {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*client, 0, len(c.clients))
	for one := range c.clients {
		list = append(list, one)
	}
	return list
}

// Counts returns how the crowd stands.
func (c *Crowd) Counts() Counts {
	c.mu.Lock()
	n := Counts{Open: len(c.clients), Lost: int(c.lost.Load())}
	c.mu.Unlock()
	n.Opened = int(c.opened.Load())
	for i := range c.shards {
		s := &c.shards[i]
		n.Messages += s.messages.Load()
		n.Rehearsed += s.rehearsed.Load()
		n.Strange += s.strange.Load()
		n.Disordered += s.disordered.Load()
		n.Pings += s.pings.Load()
	}
	return n
}

// Lost returns why the first connection was lost; empty: none was.
func (c *Crowd) Lost() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// Handshakes returns how long clients needed to connect: dial, TLS and the opening handshake.
func (c *Crowd) Handshakes() Latency { return c.handshakes.Latency() }

// Latency returns how long the messages were on their way, from the time in their stamps until they were read.
func (c *Crowd) Latency() Latency {
	sum := NewHistogram()
	for i := range c.shards {
		c.shards[i].latency.addTo(sum)
	}
	return sum.Latency()
}
