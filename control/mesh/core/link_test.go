package core

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

func helloOf(id, expected string, epoch uint64) *peerv1.Hello {
	return &peerv1.Hello{
		Self:     &peerv1.Identity{Cluster: "c", Hub: id},
		Expected: &peerv1.Identity{Cluster: "c", Hub: expected}, Epoch: epoch,
		ProtocolMin: ProtocolMin, ProtocolMax: ProtocolMax, Address: id + ":1", Lanes: 1,
	}
}

// pairOf returns hub A's core with a link each way to B, both of epoch 1, at time 0.
func pairOf(t testing.TB) *Core {
	c := New(Config{Us: helloOf("A", "", 0), HashBits: HashBits})
	c.HandleKeys(0, []Listed{{"B", "b:1"}}, nil)
	c.HandleLinked(0, "B", 1, helloOf("B", "A", 1))
	c.HandleHello(0, helloOf("B", "A", 1))
	if !c.AdmitsLink("B", 1) || c.findLinked("B", 1) == nil {
		t.Fatal("no links")
	}
	return c
}

func TestAHelloIsAcceptedFromTheRightHubOnly(t *testing.T) {
	const none = peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED
	for name, tc := range map[string]struct {
		change func(h *peerv1.Hello)
		want   peerv1.RefusalReason
	}{
		"good":            {func(*peerv1.Hello) {}, none},
		"newer, overlaps": {func(h *peerv1.Hello) { h.ProtocolMax = 9 }, none},
		"of another cluster": {
			func(h *peerv1.Hello) { h.Self.Cluster = "d" },
			peerv1.RefusalReason_REFUSAL_REASON_WRONG_CLUSTER,
		},
		"for another cluster": {
			func(h *peerv1.Hello) { h.Expected.Cluster = "d" },
			peerv1.RefusalReason_REFUSAL_REASON_WRONG_CLUSTER,
		},
		"for another hub": {
			func(h *peerv1.Hello) { h.Expected.Hub = "C" },
			peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB,
		},
		"from itself": {
			func(h *peerv1.Hello) { h.Self.Hub = "A" },
			peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB,
		},
		"too new": {
			func(h *peerv1.Hello) { h.ProtocolMin, h.ProtocolMax = ProtocolMax+1, ProtocolMax+2 },
			peerv1.RefusalReason_REFUSAL_REASON_NO_COMMON_VERSION,
		},
		"without version": {
			func(h *peerv1.Hello) { h.ProtocolMin, h.ProtocolMax = 0, 0 },
			peerv1.RefusalReason_REFUSAL_REASON_NO_COMMON_VERSION,
		},
		"without epoch": {
			func(h *peerv1.Hello) { h.Epoch = 0 },
			peerv1.RefusalReason_REFUSAL_REASON_PROTOCOL_VIOLATION,
		},
		"without address": {
			func(h *peerv1.Hello) { h.Address = "" },
			peerv1.RefusalReason_REFUSAL_REASON_PROTOCOL_VIOLATION,
		},
		"without id": {
			func(h *peerv1.Hello) { h.Self.Hub = "" },
			peerv1.RefusalReason_REFUSAL_REASON_PROTOCOL_VIOLATION,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := New(Config{Us: helloOf("A", "", 0), HashBits: HashBits})
			h := helloOf("B", "A", 1)
			tc.change(h)
			got := c.HandleHello(0, h)
			r, refused := got[0].(Refuse)
			if refused != (tc.want != none) || refused && r.Reason != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
			if tc.want != none && len(c.peers) != 0 {
				t.Error("a hub that was refused is known")
			}
		})
	}
}

func TestHubsSpeakTheHighestVersionThatBothKnow(t *testing.T) {
	for _, tc := range []struct {
		a, b [2]uint32 // lowest and highest
		want uint32    // 0: none
	}{
		{[2]uint32{1, 1}, [2]uint32{1, 1}, 1},
		{[2]uint32{1, 3}, [2]uint32{2, 5}, 3},
		{[2]uint32{1, 9}, [2]uint32{2, 2}, 2},
		{[2]uint32{1, 2}, [2]uint32{3, 4}, 0},
		{[2]uint32{0, 0}, [2]uint32{0, 4}, 0},
		{[2]uint32{3, 2}, [2]uint32{1, 4}, 0},
	} {
		hello := func(v [2]uint32) *peerv1.Hello {
			return &peerv1.Hello{ProtocolMin: v[0], ProtocolMax: v[1]}
		}
		for _, pair := range [][2][2]uint32{{tc.a, tc.b}, {tc.b, tc.a}} {
			got, ok := CommonVersion(hello(pair[0]), hello(pair[1]))
			if ok != (tc.want > 0) || ok && got != tc.want {
				t.Errorf("%v: %d, %t", pair, got, ok)
			}
		}
	}
}

func TestTheBackOffIsBounded(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: RedialFirst, 1: 2 * RedialFirst, 5: 32 * RedialFirst, 6: RedialMost, 1000: RedialMost,
	} {
		p := peer{failures: failures}
		if p.delayRedial(time.Second); p.redial != time.Second+want {
			t.Errorf("after %d failures: %v, want %v", failures, p.redial-time.Second, want)
		}
	}
}

// TestTheDiallerLooksWhoAnswers: an answer of the wrong hub or to the wrong dial ends the dial.
func TestTheDiallerLooksWhoAnswers(t *testing.T) {
	for name, change := range map[string]func(h *peerv1.Hello){
		"another hub":     func(h *peerv1.Hello) { h.Self.Hub = "C" },
		"another cluster": func(h *peerv1.Hello) { h.Self.Cluster = "d" },
		"another dial":    func(h *peerv1.Hello) { h.Epoch = 7 },
		"for another hub": func(h *peerv1.Hello) { h.Expected.Hub = "C" },
		"another version": func(h *peerv1.Hello) { h.ProtocolMin, h.ProtocolMax = 8, 9 },
	} {
		t.Run(name, func(t *testing.T) {
			c := New(Config{Us: helloOf("A", "", 0), HashBits: HashBits})
			c.HandleKeys(0, []Listed{{"B", "b:1"}}, nil)
			h := helloOf("B", "A", 1)
			change(h)
			got := c.HandleLinked(0, "B", 1, h)
			e, ok := got[0].(HangUp)
			if !ok || !errors.Is(e.Cause, errImpostor) || c.findLinked("B", 1) != nil {
				t.Errorf("%v", got)
			}
		})
	}
}

// TestABrokenRuleEndsTheLink, and does no further harm.
func TestABrokenRuleEndsTheLink(t *testing.T) {
	interest := func(m *peerv1.Interest) *peerv1.ControlResponse {
		return &peerv1.ControlResponse{Body: &peerv1.ControlResponse_Interest{Interest: m}}
	}
	for name, m := range map[string]*peerv1.ControlResponse{
		"nothing":      {},
		"second hello": {Body: &peerv1.ControlResponse_Hello{Hello: helloOf("B", "A", 1)}},
		"answer to nothing": {
			Body: &peerv1.ControlResponse_ProbeAnswer{ProbeAnswer: &peerv1.ProbeAnswer{Number: 99}},
		},
		"answer to probe 0": {
			Body: &peerv1.ControlResponse_ProbeAnswer{ProbeAnswer: &peerv1.ProbeAnswer{}},
		},
		"gap":         interest(&peerv1.Interest{Sequence: 2, SnapshotStart: true}),
		"no snapshot": interest(&peerv1.Interest{Sequence: 1}),
		"more than its most": interest(&peerv1.Interest{
			Sequence: 1, SnapshotStart: true, Added: make([]uint64, MaxHashes+1),
		}),
	} {
		t.Run("response: "+name, func(t *testing.T) {
			c := pairOf(t)
			got := c.HandleResponse(0, "B", 1, m)
			e, ok := got[0].(HangUp)
			if !ok || !errors.Is(e.Cause, ErrViolation) || c.findLinked("B", 1) != nil {
				t.Errorf("%v", got)
			}
		})
	}
	t.Run("response: falling version", func(t *testing.T) {
		c := pairOf(t)
		c.HandleResponse(0, "B", 1, interest(&peerv1.Interest{
			Sequence: 1, SnapshotStart: true, Version: 5,
		}))
		c.HandleResponse(0, "B", 1, interest(&peerv1.Interest{Sequence: 2, Version: 4}))
		if c.findLinked("B", 1) != nil {
			t.Error("goes on")
		}
	})
	for name, m := range map[string]*peerv1.ControlRequest{
		"nothing":      {},
		"second hello": {Body: &peerv1.ControlRequest_Hello{Hello: helloOf("B", "A", 1)}},
		"probe gap":    {Body: &peerv1.ControlRequest_Probe{Probe: &peerv1.Probe{Number: 2}}},
		"confirms what was not sent": {Body: &peerv1.ControlRequest_InterestConfirmation{
			InterestConfirmation: &peerv1.InterestConfirmation{Sequence: 9},
		}},
	} {
		t.Run("request: "+name, func(t *testing.T) {
			c := pairOf(t)
			got := c.HandleRequest(0, "B", 1, m)
			e, ok := got[0].(Fence)
			if !ok || !errors.Is(e.Cause, ErrViolation) || c.AdmitsLink("B", 1) {
				t.Errorf("%v", got)
			}
		})
	}
}

// FuzzPeers feeds the core any messages of a peer.
func FuzzPeers(f *testing.F) {
	for _, m := range []proto.Message{
		helloOf("B", "A", 2),
		&peerv1.ControlRequest{Body: &peerv1.ControlRequest_Probe{Probe: &peerv1.Probe{Number: 1}}},
		&peerv1.ControlResponse{
			Body: &peerv1.ControlResponse_ProbeAnswer{ProbeAnswer: &peerv1.ProbeAnswer{Number: 1}},
		},
		&peerv1.ControlResponse{Body: &peerv1.ControlResponse_Interest{
			Interest: &peerv1.Interest{
				Sequence: 1, SnapshotStart: true, SnapshotEnd: true, Added: []uint64{0, 1},
				Removed: []uint64{1},
			},
		}},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := pairOf(t)
		now := time.Millisecond
		var hello peerv1.Hello
		var in peerv1.ControlRequest
		var out peerv1.ControlResponse
		if proto.Unmarshal(b, &in) == nil {
			c.HandleRequest(now, "B", 1, &in)
			c.HandleRequest(now, "B", 1, &in)
		}
		if proto.Unmarshal(b, &out) == nil {
			c.HandleResponse(now, "B", 1, &out)
			c.HandleResponse(now, "B", 1, &out)
		}
		if proto.Unmarshal(b, &hello) == nil {
			c.HandleHello(now, &hello)
			c.HandleLinked(now, hub.ID(hello.GetSelf().GetHub()), hello.GetEpoch(), &hello)
		}
		c.HandleTick(now)
		c.FindRoute(nil, now, Query{Hashes: []Hash{1}})
		if next := c.NextDeadline(); next <= now {
			t.Errorf("spins: next is %v at %v", next, now)
		}
	})
}
