package edge

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"
)

// isClosed reports whether nothing can be read with r any more.
func isClosed(r *reader) bool {
	_, _, err := r.ws.Reader(context.Background())
	return errors.Is(err, net.ErrClosed)
}

// aReader returns a reader of p that has a link.
func aReader(p *readerPool, s *Server) *reader {
	return p.lendReader(&link{server: s, protocol: &countedProtocol{most: 1}})
}

// A reader goes to the next link. A reader in which a timer of coder/websocket may be about to fire
// does not: the timer would end the next link.
func TestAReaderIsLentAgainUnlessItMayCloseItself(t *testing.T) {
	s := &Server{started: time.Now().Add(-time.Hour)}
	for name, one := range map[string]struct {
		control bool
		age     time.Duration
		kept    bool
	}{
		"no control frame":         {false, 0, true},
		"a control frame":          {true, 0, true},
		"a control frame long ago": {true, 2 * controlGrace, false},
	} {
		t.Run(name, func(t *testing.T) {
			var p readerPool
			defer p.closePool()
			r := aReader(&p, s)
			r.control, r.controlAt = one.control, s.sinceStart()-one.age
			p.takeBack(r)
			if r.link != nil {
				t.Error("the reader still refers to its link")
			}
			next := aReader(&p, s)
			defer p.takeBack(next)
			if (next == r) != one.kept {
				t.Errorf("kept: %t, want %t", next == r, one.kept)
			}
			if next.control || next.controlAt != 0 {
				t.Errorf("the next link begins with %+v", next.inbound)
			}
			if !one.kept && !isClosed(r) {
				t.Error("the reader was not closed, so it stays in memory")
			}
		})
	}
}

// A pool keeps so many readers. It closes the rest, and all when it is closed.
func TestAPoolClosesTheReadersThatItDoesNotKeep(t *testing.T) {
	s := &Server{started: time.Now()}
	var p readerPool
	var all []*reader
	for range readersKept + 1 {
		all = append(all, aReader(&p, s))
	}
	late := aReader(&p, s)
	for _, r := range all {
		p.takeBack(r)
	}
	if len(p.idle) != readersKept || !isClosed(all[readersKept]) {
		t.Errorf("%d readers are kept, want %d, and the last closed", len(p.idle), readersKept)
	}
	p.closePool()
	p.takeBack(late)
	for i, r := range append(all, late) {
		if !isClosed(r) {
			t.Errorf("reader %d was not closed", i)
		}
	}
}
