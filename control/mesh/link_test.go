package mesh

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

func helloOf(id, expected string, epoch uint64) *peerv1.Hello {
	return &peerv1.Hello{
		Self:     &peerv1.Identity{Cluster: "c", Hub: id},
		Expected: &peerv1.Identity{Cluster: "c", Hub: expected}, Epoch: epoch,
		ProtocolMin: protocolMin, ProtocolMax: protocolMax, Address: id + ":1", Lanes: 1,
	}
}

// pairOf returns hub A's core with a link each way to B, both of epoch 1, at time 0.
func pairOf(t testing.TB) *core {
	c := newCore(coreConfig{us: helloOf("A", "", 0), hashBits: hashBits})
	c.handleKeys(0, []listed{{"B", "b:1"}}, nil)
	c.handleLinked(0, "B", 1, helloOf("B", "A", 1))
	c.handleHello(0, helloOf("B", "A", 1))
	if !c.admitsLink("B", 1) || c.findLinked("B", 1) == nil {
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
			func(h *peerv1.Hello) { h.ProtocolMin, h.ProtocolMax = protocolMax+1, protocolMax+2 },
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
			c := newCore(coreConfig{us: helloOf("A", "", 0), hashBits: hashBits})
			h := helloOf("B", "A", 1)
			tc.change(h)
			got := c.handleHello(0, h)
			r, refused := got[0].(refuse)
			if refused != (tc.want != none) || refused && r.reason != tc.want {
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
			got, ok := commonVersion(hello(pair[0]), hello(pair[1]))
			if ok != (tc.want > 0) || ok && got != tc.want {
				t.Errorf("%v: %d, %t", pair, got, ok)
			}
		}
	}
}

func TestTheBackOffIsBounded(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		0: redialFirst, 1: 2 * redialFirst, 5: 32 * redialFirst, 6: redialMost, 1000: redialMost,
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
			c := newCore(coreConfig{us: helloOf("A", "", 0), hashBits: hashBits})
			c.handleKeys(0, []listed{{"B", "b:1"}}, nil)
			h := helloOf("B", "A", 1)
			change(h)
			got := c.handleLinked(0, "B", 1, h)
			e, ok := got[0].(hangUp)
			if !ok || !errors.Is(e.cause, errImpostor) || c.findLinked("B", 1) != nil {
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
			Sequence: 1, SnapshotStart: true, Added: make([]uint64, maxHashes+1),
		}),
	} {
		t.Run("response: "+name, func(t *testing.T) {
			c := pairOf(t)
			got := c.handleResponse(0, "B", 1, m)
			e, ok := got[0].(hangUp)
			if !ok || !errors.Is(e.cause, errViolation) || c.findLinked("B", 1) != nil {
				t.Errorf("%v", got)
			}
		})
	}
	t.Run("response: falling version", func(t *testing.T) {
		c := pairOf(t)
		c.handleResponse(0, "B", 1, interest(&peerv1.Interest{
			Sequence: 1, SnapshotStart: true, Version: 5,
		}))
		c.handleResponse(0, "B", 1, interest(&peerv1.Interest{Sequence: 2, Version: 4}))
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
			got := c.handleRequest(0, "B", 1, m)
			e, ok := got[0].(fence)
			if !ok || !errors.Is(e.cause, errViolation) || c.admitsLink("B", 1) {
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
			c.handleRequest(now, "B", 1, &in)
			c.handleRequest(now, "B", 1, &in)
		}
		if proto.Unmarshal(b, &out) == nil {
			c.handleResponse(now, "B", 1, &out)
			c.handleResponse(now, "B", 1, &out)
		}
		if proto.Unmarshal(b, &hello) == nil {
			c.handleHello(now, &hello)
			c.handleLinked(now, hub.ID(hello.GetSelf().GetHub()), hello.GetEpoch(), &hello)
		}
		c.handleTick(now)
		c.findRoute(now, Query{Hashes: []Hash{1}})
		if next := c.nextDeadline(); next <= now {
			t.Errorf("spins: next is %v at %v", next, now)
		}
	})
}
