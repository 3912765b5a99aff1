package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// shards is the number of parts of the counts. Machines with more cores gain little from more
// parts.
const shards = 8

// Crowd is a set of clients. Call Open once, and Close once after it. All other methods are safe
// for concurrent use at any time.
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
	clients map[*client]struct{} // the open clients
	reason  string               // of the first loss
}

// shard has the counts of a part of the clients.
type shard struct {
	latency                                         *Histogram
	messages, rehearsed, strange, disordered, pings atomic.Int64
}

// Counts has the counts of a crowd.
type Counts struct {
	Opened     int   // connections that were opened, ever
	Open       int   // connections that are open
	Lost       int   // connections that ended, and not by Close
	Messages   int64 // measured messages
	Rehearsed  int64 // messages before the measurement
	Strange    int64 // messages without a stamp of this run
	Disordered int64 // of Messages: those whose sequence did not rise; 0 unless Config.Ordered
	Pings      int64 // answered pings
}

// New returns a crowd without an open connection. It raises the process's limit of open files as
// far as the system allows, and returns ErrFileLimit if the limit is below the need of all clients.
func New(config Config) (*Crowd, error) {
	if err := config.Validate().Err(); err != nil {
		return nil, err
	}
	if err := checkFileLimit(len(config.URLs), raiseFileLimit()); err != nil {
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

// Open opens all connections. It stops with an error at the first connection that it cannot open,
// or when ctx is done. Connections that are open by then stay open until Close.
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
				if err := c.openClient(ctx, i); err != nil {
					cancel(fmt.Errorf("connection %d of %d: %w", i+1, len(c.config.URLs), err))
				}
			}
		})
	}
	workers.Wait()
	return context.Cause(ctx)
}

// openClient opens the connection of client i and starts the client's goroutine.
func (c *Crowd) openClient(ctx context.Context, i int) error {
	began := c.config.Stamp.Now()
	conn, rest, err := c.connectClient(ctx, i)
	if err != nil {
		return err
	}
	c.handshakes.Record(c.config.Stamp.Now() - began)
	member := &client{crowd: c, shard: &c.shards[i%shards], conn: conn}
	c.mu.Lock()
	c.clients[member] = struct{}{}
	c.mu.Unlock()
	c.opened.Add(1)
	c.readers.Go(func() { c.removeClient(member, member.readUntilEnd(rest)) })
	return nil
}

// removeClient removes a client whose connection is over, and counts a loss unless this side
// closed. The client's goroutine calls it.
func (c *Crowd) removeClient(member *client, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.clients, member)
	if member.leaving.Load() {
		return
	}
	if c.lost.Add(1) == 1 {
		c.reason = describeLoss(why)
	}
}

// Close closes all connections by the closing handshake. After Config.CloseTimeout it cuts the
// connections whose server has not answered. It returns when all goroutines have ended.
func (c *Crowd) Close() {
	deadline := time.Now().Add(c.config.CloseTimeout)
	for _, member := range c.listClients() {
		member.startClosing(deadline)
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
		for _, member := range c.listClients() {
			_ = member.conn.Close()
		}
		<-gone
	}
}

// listClients returns the open clients, in no order.
func (c *Crowd) listClients() []*client {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]*client, 0, len(c.clients))
	for member := range c.clients {
		list = append(list, member)
	}
	return list
}

// Counts returns the counts of now. While messages arrive, they are not of the very same instant.
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

// Lost returns the reason for the first loss of a connection, or "" if no connection was lost.
func (c *Crowd) Lost() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// Handshakes returns how long clients needed to connect: dial, TLS and the opening handshake.
func (c *Crowd) Handshakes() Latency { return c.handshakes.Latency() }

// Latency returns how long the messages were on their way, from the time in their stamps until the
// client had read them.
func (c *Crowd) Latency() Latency {
	sum := NewHistogram()
	for i := range c.shards {
		c.shards[i].latency.mergeInto(sum)
	}
	return sum.Latency()
}
