package core

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// fuzzed is a core with links to a peer whose messages are read from bytes: each is a length, a
// pause in 10 ms, and as many bytes of a proto.
type fuzzed struct {
	*Core
	now   time.Duration
	bytes []byte
}

func newFuzzed(t *testing.T, bytes []byte) *fuzzed {
	f := &fuzzed{Core: pairOf(t), bytes: bytes}
	for i := range 10 {
		f.AddReference(0, spread(i))
	}
	return f
}

// next reads a message into m; false: there is none.
func (f *fuzzed) take(m proto.Message) bool {
	for len(f.bytes) >= 2 {
		size, pause := int(f.bytes[0]), time.Duration(f.bytes[1])*10*time.Millisecond
		size = min(size, len(f.bytes)-2)
		b := f.bytes[2 : 2+size]
		f.bytes = f.bytes[2+size:]
		f.wait(pause)
		if proto.Unmarshal(b, m) == nil {
			return true
		}
	}
	return false
}

// wait lets time pass, as the shell does.
func (f *fuzzed) wait(d time.Duration) {
	for end := f.now + d; ; {
		at := f.NextDeadline()
		if at > end {
			f.now = end
			return
		}
		f.now = max(at, f.now)
		f.HandleTick(f.now)
	}
}

// pack is the inverse of next.
func pack(tb testing.TB, pause byte, messages ...proto.Message) (packed []byte) {
	for _, m := range messages {
		b, err := proto.Marshal(m)
		if err != nil || len(b) > 255 {
			tb.Fatal(len(b), err)
		}
		packed = append(append(packed, byte(len(b)), pause), b...)
	}
	return packed
}

// FuzzControlRequest feeds a core the messages of a peer on a link that the peer dialled. A
// violation must end the link and change nothing else. The memory for the peer must stay bounded.
func FuzzControlRequest(f *testing.F) {
	probes := []proto.Message{
		saying(&peerv1.Probe{Number: 1}), saying(&peerv1.Probe{Number: 2}),
		saying(&peerv1.InterestConfirmation{Sequence: 1}),
	}
	f.Add(pack(f, 10, probes...))
	f.Add(pack(f, 10, append(probes, saying(&peerv1.Probe{Number: 9}))...))
	f.Add(pack(f, 1, saying(&peerv1.InterestConfirmation{Sequence: 3}),
		saying(&peerv1.GoingAway{Farewell: true}), saying(&peerv1.GoingAway{})))
	f.Add(pack(f, 255, &peerv1.ControlRequest{}, saying(helloOf("B", "A", 2))))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newFuzzed(t, b)
		var m peerv1.ControlRequest
		for c.take(&m) {
			c.AddReference(c.now, spread(len(b)))
			was := c.AdmitsLink("B", 1)
			for _, e := range c.HandleRequest(c.now, "B", 1, &m) {
				switch e := e.(type) {
				case Response:
					if !was || e.Epoch != 1 {
						t.Fatalf("a link that is over is told %v", e)
					}
				case Fence:
					if c.AdmitsLink("B", 1) {
						t.Fatal("a fenced link goes on")
					}
				}
			}
			if was && m.GetHello() != nil && c.AdmitsLink("B", 1) {
				t.Fatal("a second hello is taken")
			}
			if p := c.peers["B"]; p != nil && p.in != nil && len(p.in.feed.flight) > probeWindow {
				t.Fatalf("%d messages of interest are under way", len(p.in.feed.flight))
			}
			m.Reset()
		}
		c.isSound(t)
	})
}

// FuzzControlResponse feeds a core the messages of a peer on a link that the core dialled.
func FuzzControlResponse(f *testing.F) {
	snapshot := answering(&peerv1.Interest{
		Sequence: 1, SnapshotStart: true, SnapshotEnd: true, Added: []uint64{0, 1, 2}, Version: 3,
	})
	change := answering(&peerv1.Interest{
		Sequence: 2, Added: []uint64{4}, Removed: []uint64{0, 1, 9}, Version: 4,
	})
	answer := answering(&peerv1.ProbeAnswer{Number: 1, InterestVersion: 3})
	f.Add(pack(f, 1, snapshot, answer, change, answering(&peerv1.ProbeAnswer{
		Number: 2, InterestVersion: 5,
	})))
	f.Add(pack(f, 10, answer, answer, snapshot, snapshot))
	f.Add(pack(f, 255, snapshot, &peerv1.ControlResponse{}, answering(helloOf("B", "A", 1))))
	f.Add(pack(f, 1, &peerv1.ControlResponse{
		Body: &peerv1.ControlResponse_GoingAway{GoingAway: &peerv1.GoingAway{Farewell: true}},
	}))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := newFuzzed(t, b)
		var m peerv1.ControlResponse
		for told := 0; c.take(&m); {
			was := c.findLinked("B", 1) != nil
			told += len(m.GetInterest().GetAdded())
			for _, e := range c.HandleResponse(c.now, "B", 1, &m) {
				switch e := e.(type) {
				case Request:
					if !was || e.Epoch != 1 && e.Hub == "B" {
						t.Fatalf("a link that is over is told %v", e)
					}
				case HangUp:
					if c.findLinked("B", 1) != nil {
						t.Fatal("a link goes on that was ended")
					}
				}
			}
			if was && m.GetHello() != nil && c.findLinked("B", 1) != nil {
				t.Fatal("a second hello is taken")
			}
			if p := c.findLinked("B", 1); p != nil && p.out.filter.table.len > told {
				t.Fatalf("%d hashes, told %d", p.out.filter.table.len, told)
			}
			m.Reset()
		}
		c.isSound(t)
	})
}

// isSound checks that time goes on, calls are routed and every peer is known once.
func (f *fuzzed) isSound(t *testing.T) {
	f.wait(0)
	if next := f.NextDeadline(); next <= f.now {
		t.Errorf("spins: next is %v at %v", next, f.now)
	}
	r := f.FindRoute(nil, f.now, Query{Hashes: []Hash{1}, Hubs: []hub.ID{"B"}})
	if p := f.peers["B"]; p != nil && p.isMember(f.now) {
		if called := len(r.To) + len(r.Unreachable); (called == 1) == p.farewell {
			t.Errorf("a member gets %d calls, farewell is %t: %+v", called, p.farewell, r)
		}
	}
	if len(f.order) != len(f.peers) || len(f.peers) > 1 {
		t.Errorf("%d peers, %v", len(f.peers), f.order)
	}
}

// answering wraps a message for a Control stream that was dialled.
func answering(m proto.Message) *peerv1.ControlResponse {
	switch m := m.(type) {
	case *peerv1.Hello:
		return &peerv1.ControlResponse{Body: &peerv1.ControlResponse_Hello{Hello: m}}
	case *peerv1.ProbeAnswer:
		return &peerv1.ControlResponse{Body: &peerv1.ControlResponse_ProbeAnswer{ProbeAnswer: m}}
	case *peerv1.Interest:
		return &peerv1.ControlResponse{Body: &peerv1.ControlResponse_Interest{Interest: m}}
	default:
		return m.(*peerv1.ControlResponse)
	}
}

// saying wraps a message for a Control stream.
func saying(m proto.Message) *peerv1.ControlRequest {
	switch m := m.(type) {
	case *peerv1.Hello:
		return &peerv1.ControlRequest{Body: &peerv1.ControlRequest_Hello{Hello: m}}
	case *peerv1.Probe:
		return &peerv1.ControlRequest{Body: &peerv1.ControlRequest_Probe{Probe: m}}
	case *peerv1.InterestConfirmation:
		return &peerv1.ControlRequest{
			Body: &peerv1.ControlRequest_InterestConfirmation{InterestConfirmation: m},
		}
	case *peerv1.GoingAway:
		return &peerv1.ControlRequest{Body: &peerv1.ControlRequest_GoingAway{GoingAway: m}}
	case *peerv1.ControlRequest:
		return m
	default:
		panic(fmt.Sprintf("%T", m))
	}
}
