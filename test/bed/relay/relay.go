// Package relay has TCP proxies: the network between two parts, which tests break and mend. Only
// tests import it.
//
// Purpose: a Relay carries connections to an address. A test can cut them, hold them back, slow
// them down, or leave them half-open.
//
// Life: from Start to the end of the test.
//
// Goroutines: one accepts, and two carry each connection. All end with the test.
//
// Locking: a Relay is safe for concurrent use. Relay.mu guards the connections and their state.
//
// Backpressure: a direction holds at most a buffer that its receiver does not take. Then it reads
// no further.
//
// Errors: a connection that can't be carried is closed.
package relay

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// Relay is a TCP proxy: the network between two parts.
type Relay struct {
	Address string // where it listens, as host:port

	running sync.WaitGroup

	mu    sync.Mutex
	to    string // address that it connects to; empty: none
	dark  bool   // it refuses connections
	pipes map[*pipe]bool
	flow  gate
	delay time.Duration // of each piece of bytes
}

// dialLimit bounds a dial on loopback, also to a process that is stopped and whose queue is full.
const dialLimit = 10 * time.Second

// gate is closed while bytes flow.
type gate chan struct{}

func openGate() gate {
	g := make(gate)
	close(g)
	return g
}

// letThrough opens it, if it is not.
func (g gate) letThrough() {
	select {
	case <-g:
	default:
		close(g)
	}
}

// pipe is a connection through a relay: both its halves.
type pipe struct {
	ends [2]net.Conn
	over chan struct{} // closed with them
	once sync.Once

	// Guarded by the relay.
	flow     gate
	carried  int  // bytes to the address that the relay connects to
	stranded bool // it carries nothing any more, and its far end stays
}

func (p *pipe) closeEnds() {
	p.once.Do(func() {
		close(p.over)
		for _, end := range p.ends {
			_ = end.Close()
		}
	})
}

// Start starts a relay on a host until the test ends. It refuses connections until Connect.
func Start(t *testing.T, host string) *Relay {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Address: listener.Addr().String(), pipes: map[*pipe]bool{}, flow: openGate()}
	r.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { r.carryConn(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.Cut()
		r.running.Wait()
	})
	return r
}

// Connect directs all further connections to an address.
func (r *Relay) Connect(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = address
}

// Cut ends all connections through the relay, and lets nothing through until Mend.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dark = true
	for p := range r.pipes {
		p.closeEnds()
	}
}

// Drop ends the connections that isOut picks after a time, and holds back their bytes until then.
// So there are bytes to lose. Further connections pass. It returns the number of connections that
// it ends.
func (r *Relay) Drop(after time.Duration, isOut func() bool) (dropped int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pipes {
		if isOut() {
			p.flow = make(gate)
			time.AfterFunc(after, p.closeEnds)
			dropped++
		}
	}
	return dropped
}

// Stall holds back every byte until Mend. Nothing is lost.
func (r *Relay) Stall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow = make(gate)
}

// StallBusy is Stall for the connections alone that have carried so many bytes. It returns the
// number of these connections.
func (r *Relay) StallBusy(bytes int) (stalled int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pipes {
		if p.carried >= bytes {
			p.flow = make(gate)
			stalled++
		}
	}
	return stalled
}

// Strand leaves all present connections half-open: they carry nothing any more. An end that is
// closed is not told to the other side before Mend, which closes them. Further connections pass. It
// returns the number of connections that it has stranded.
func (r *Relay) Strand() (stranded int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.pipes {
		p.flow, p.stranded = make(gate), true
		stranded++
	}
	return stranded
}

// Slow delays each piece of bytes until Mend. A piece is at most 64 KiB.
func (r *Relay) Slow(delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.delay = delay
}

// Mend ends a cut, a stall, a delay, and all connections that are half-open.
func (r *Relay) Mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dark, r.delay = false, 0
	r.flow.letThrough()
	for p := range r.pipes {
		if p.stranded {
			p.closeEnds()
			continue
		}
		p.flow.letThrough()
	}
}

// countArrived counts the bytes that have come, and returns the gates and the delay before them.
func (r *Relay) countArrived(
	p *pipe, from net.Conn, bytes int,
) (all, own gate, delay time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from == p.ends[0] {
		p.carried += bytes
	}
	return r.flow, p.flow, r.delay
}

func (r *Relay) carryConn(near net.Conn) {
	r.mu.Lock()
	to, dark := r.to, r.dark
	r.mu.Unlock()
	if dark || to == "" {
		_ = near.Close()
		return
	}
	dialer := net.Dialer{Timeout: dialLimit}
	far, err := dialer.DialContext(context.Background(), "tcp", to)
	if err != nil {
		_ = near.Close()
		return
	}
	p := &pipe{ends: [2]net.Conn{near, far}, over: make(chan struct{}), flow: openGate()}
	defer p.closeEnds()
	r.mu.Lock()
	dark = r.dark
	r.pipes[p] = true
	r.mu.Unlock()
	if dark { // since it was asked
		p.closeEnds()
	}
	var back sync.WaitGroup
	back.Go(func() { r.pourBytes(p, far, near) })
	r.pourBytes(p, near, far)
	back.Wait()
	r.mu.Lock()
	delete(r.pipes, p)
	r.mu.Unlock()
}

// pourBytes carries bytes in a direction until an end is closed, and then closes the opposite end.
func (r *Relay) pourBytes(p *pipe, from, to net.Conn) {
	defer r.leavePipe(p)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		all, own, delay := r.countArrived(p, from, n)
		for _, g := range []gate{all, own} {
			select {
			case <-g:
			case <-p.over:
				return
			}
		}
		if delay > 0 {
			select {
			case <-time.After(delay):
			case <-p.over:
				return
			}
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// leavePipe closes a pipe, or waits for Mend if it is stranded.
func (r *Relay) leavePipe(p *pipe) {
	r.mu.Lock()
	stranded := p.stranded
	r.mu.Unlock()
	if stranded {
		<-p.over
	}
	p.closeEnds()
}
