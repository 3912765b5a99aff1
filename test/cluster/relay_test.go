package cluster

import (
	"net"
	"sync"
	"testing"
)

// relay is a TCP proxy: the network between two parts, which can be cut, stalled and mended.
type relay struct {
	address string // where it listens
	running sync.WaitGroup

	mu    sync.Mutex
	to    string // address that it connects to; empty: none
	dark  bool   // it refuses connections
	pipes map[*pipe]bool
	flow  gate
}

// gate is closed while bytes flow.
type gate chan struct{}

func openGate() gate {
	g := make(gate)
	close(g)
	return g
}

// open opens it, if it is not.
func (g gate) open() {
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
	flow    gate
	carried int // bytes to the address that the relay connects to
}

func (p *pipe) close() {
	p.once.Do(func() {
		close(p.over)
		for _, end := range p.ends {
			_ = end.Close()
		}
	})
}

// startRelay starts a relay on a host until the test ends.
func startRelay(t *testing.T, host string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{address: listener.Addr().String(), pipes: map[*pipe]bool{}, flow: openGate()}
	r.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { r.carry(conn) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.cut()
		r.running.Wait()
	})
	return r
}

// connect directs all further connections to an address.
func (r *relay) connect(address string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = address
}

// cut ends all connections through the relay, and lets nothing through until mend.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dark = true
	for p := range r.pipes {
		p.close()
	}
}

// stall holds back every byte until mend. Nothing is lost.
func (r *relay) stall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flow = make(gate)
}

// stallBusy is stall for the connections alone that have carried so many bytes. It returns the
// number of these connections.
func (r *relay) stallBusy(bytes int) (stalled int) {
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

// mend ends a cut or a stall.
func (r *relay) mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dark = false
	r.flow.open()
	for p := range r.pipes {
		p.flow.open()
	}
}

// arrived counts the bytes that have come, and returns the stall that holds them back.
func (r *relay) arrived(p *pipe, from net.Conn, bytes int) (all, own gate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from == p.ends[0] {
		p.carried += bytes
	}
	return r.flow, p.flow
}

func (r *relay) carry(near net.Conn) {
	r.mu.Lock()
	to, dark := r.to, r.dark
	r.mu.Unlock()
	if dark || to == "" {
		_ = near.Close()
		return
	}
	far, err := net.Dial("tcp", to)
	if err != nil {
		_ = near.Close()
		return
	}
	p := &pipe{ends: [2]net.Conn{near, far}, over: make(chan struct{}), flow: openGate()}
	defer p.close()
	r.mu.Lock()
	dark = r.dark
	r.pipes[p] = true
	r.mu.Unlock()
	if dark { // since it was asked
		p.close()
	}
	var back sync.WaitGroup
	back.Go(func() { r.pour(p, far, near) })
	r.pour(p, near, far)
	back.Wait()
	r.mu.Lock()
	delete(r.pipes, p)
	r.mu.Unlock()
}

// pour carries bytes in a direction until an end is closed, and then closes the opposite end.
func (r *relay) pour(p *pipe, from, to net.Conn) {
	defer p.close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		all, own := r.arrived(p, from, n)
		for _, g := range []gate{all, own} {
			select {
			case <-g:
			case <-p.over:
				return
			}
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
