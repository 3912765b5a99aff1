package mesh

import (
	"testing"
	"time"

	"github.com/connhub/connhub/control/mesh/core"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// metric returns the value of an instrument with those label values; for a histogram its count.
func (h *member) metric(t testing.TB, name string, labels ...string) float64 {
	t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.GetMetric() {
			if len(m.GetLabel()) != len(labels) {
				t.Fatalf("%s has labels %v", name, m.GetLabel())
			}
			for i, l := range m.GetLabel() { // sorted by name
				if l.GetValue() != labels[i] {
					continue metrics
				}
			}
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() +
				float64(m.GetHistogram().GetSampleCount())
		}
	}
	return 0
}

// TestTheKindOfASendIsItsField: the mesh knows a send by its type, and names it like each kind.
func TestTheKindOfASendIsItsField(t *testing.T) {
	call := (&peerv1.Forward{Call: &peerv1.Forward_Send{}}).ProtoReflect().WhichOneof(calls)
	result := (&peerv1.ForwardResult{Result: &peerv1.ForwardResult_Send{}}).ProtoReflect().
		WhichOneof(results)
	if call.Name() != kindSend || result.Name() != kindSend {
		t.Errorf("a send is %q, its result %q, want %q", call.Name(), result.Name(), kindSend)
	}
}

func TestMetricsTellOfLinksCallsAndPeers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y, z := b.start("a"), b.start("b"), b.start("c")
		lobby, toLobby := group("lobby")
		y.join(t, lobby)
		time.Sleep(time.Second)
		for range 3 {
			x.send(t.Context(), "me", "", toLobby)
		}
		want := func(h *member, value float64, name string, labels ...string) {
			t.Helper()
			if got := h.metric(t, name, labels...); got != value {
				t.Errorf("%s: %s%v is %v, want %v", h.id, name, labels, got, value)
			}
		}
		want(x, 3, "connhub_mesh_forwards_total", "send", "interest")
		want(x, 0, "connhub_mesh_forwards_total", "send", "flood")
		want(y, 3, "connhub_mesh_forwards_received_total", "send")
		want(z, 0, "connhub_mesh_forwards_received_total", "send")
		want(x, 2, "connhub_mesh_peers", "linked")
		want(x, 2, "connhub_mesh_leases")
		want(y, 1, "connhub_mesh_interest")
		want(x, 1, "connhub_mesh_peer_interest")
		want(y, 1, "connhub_mesh_join_wait_seconds")
		time.Sleep(core.ProbeInterval / 2) // away from the moment of a probe
		before := x.metric(t, "connhub_mesh_probe_seconds")
		time.Sleep(time.Second)
		want(x, before+20, "connhub_mesh_probe_seconds")

		b.stall(x, z, true, true)
		time.Sleep(time.Second)
		want(x, 1, "connhub_mesh_peers", "suspect")
		want(x, 1, "connhub_mesh_leases")
		x.send(t.Context(), "me", "", toLobby)
		want(x, 1, "connhub_mesh_forwards_total", "send", "flood")
		want(x, 1, "connhub_mesh_outcomes_unknown_total")
		b.stall(x, z, false, false)
		time.Sleep(time.Second)
		want(x, 2, "connhub_mesh_peers", "linked")
		want(z, 1, "connhub_mesh_forwards_received_total", "send")

		b.cut(x, y)
		time.Sleep(time.Second)
		want(x, 1, "connhub_mesh_links_ended_total", "hung_up")
		b.list("nobody", "nowhere:1")
		time.Sleep(50 * time.Millisecond)
		want(x, 1, "connhub_mesh_dials_failed_total", "none")
		want(x, 1, "connhub_mesh_peers", "listed")
		if err := x.down(); err != nil {
			t.Error(err)
		}
		want(x, 2, "connhub_mesh_links_ended_total", "closing")
	})
}

func TestPeersTellsWhoTheOthersAre(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		for _, name := range []string{"one", "two"} {
			k, _ := group(name)
			y.join(t, k)
		}
		y.GoAway()
		time.Sleep(time.Second)
		got := x.Peers()
		if len(got) != 1 || got[0].InterestBytes == 0 {
			t.Fatalf("%+v", got)
		}
		got[0].InterestBytes = 0
		want := PeerInfo{
			Hub: "b", State: PeerLinked, Name: "pod-b", Zone: "zone", Version: "v1",
			Address: "b:9090",
			Listed:  true, Lease: true, Draining: true, Interest: 2,
		}
		if got[0] != want {
			t.Errorf("%+v, want %+v", got[0], want)
		}
		if y.sees(x).Draining || y.InterestSize() != 2 || x.Cluster() != "cluster" ||
			!x.Registered() {
			t.Errorf("b sees %+v", y.sees(x))
		}
	})
}
