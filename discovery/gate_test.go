package discovery_test

import (
	"net"
	"sync"
	"testing"
)

// gate is a TCP proxy before etcd. A test can cut it, so that connections are refused, or hold it,
// so that connections stay open without an answer.
type gate struct {
	listener net.Listener
	target   string

	goroutines sync.WaitGroup

	mu    sync.Mutex
	moved *sync.Cond // signals a change of cut or held
	cut   bool
	held  bool
	conns map[net.Conn]struct{}
}

func newGate(t *testing.T, target string) *gate {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{listener: l, target: target, conns: make(map[net.Conn]struct{})}
	g.moved = sync.NewCond(&g.mu)
	g.goroutines.Go(g.accept)
	t.Cleanup(func() {
		_ = l.Close()
		g.set(true, false)
		g.goroutines.Wait()
	})
	return g
}

func (g *gate) address() string { return g.listener.Addr().String() }

// set changes the state of the gate. cut also breaks the existing connections.
func (g *gate) set(cut, held bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.cut, g.held = cut, held
	if cut {
		for c := range g.conns {
			_ = c.Close()
		}
		clear(g.conns)
	}
	g.moved.Broadcast()
}

func (g *gate) close()  { g.set(true, false) }
func (g *gate) hold()   { g.set(false, true) }
func (g *gate) reopen() { g.set(false, false) }

// inUse reports whether a connection exists.
func (g *gate) inUse() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns) > 0
}

func (g *gate) accept() {
	for {
		in, err := g.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", g.target)
		if err != nil || !g.admit(in, out) {
			_ = in.Close()
			if out != nil {
				_ = out.Close()
			}
			continue
		}
		g.goroutines.Go(func() { g.pump(in, out) })
		g.goroutines.Go(func() { g.pump(out, in) })
	}
}

func (g *gate) admit(conns ...net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cut {
		return false
	}
	for _, c := range conns {
		g.conns[c] = struct{}{}
	}
	return true
}

func (g *gate) pump(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	buffer := make([]byte, 16<<10)
	for {
		n, err := from.Read(buffer)
		g.mu.Lock()
		for g.held {
			g.moved.Wait()
		}
		g.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}
