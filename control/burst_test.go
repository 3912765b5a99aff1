package control

import (
	"testing"
	"time"

	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// eight are the sends of a burst test, in a single request.
var eight = []string{"a", "b", "c", "d", "e", "f", "g", "h"}

func TestABatchIsOneWriteToEachClientAlsoWhereOtherHubsHaveMembers(t *testing.T) {
	c := newCluster(t, 2)
	p := &wireProtocol{}
	ann, bob := c.hubs[0].connect(t, p, "ann", "lobby"), c.hubs[1].connect(t, p, "bob", "lobby")
	stream, err := c.hubs[0].delivery.SendStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var sends []*controlv1.SendRequest
	for _, words := range eight {
		sends = append(sends, to(&controlv1.Target{Groups: []string{"lobby"}}, words))
	}
	request := batch(1, sends...)
	if err := stream.Send(request); err != nil {
		t.Fatal(err)
	}
	for results := 0; results < len(eight); {
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range r.GetResults() {
			holdReceipt(
				t, &controlv1.Receipt{Matched: 2, Written: 2, NotAckable: 2}, one.GetReceipt(),
			)
			results++
		}
	}
	const all = "a|b|c|d|e|f|g|h|"
	if n := ann.written(); n != 1 || ann.received() != all {
		t.Errorf("the member here got %q in %d writes", ann.received(), n)
	}
	if bob.received() != all {
		t.Errorf("the member at the other hub got %q", bob.received())
	}
}

func TestForwardedSendsAreWrittenTogether(t *testing.T) {
	f := newFixture(t)
	ann := f.connect(t, &wireProtocol{}, "ann")
	e := &executor{f.hub, nil, slogTo(f.log), newVerbTable(), nil}
	var burst hub.Burst
	for _, words := range eight[:3] { // an outbox takes no more here
		o := newCheckedSend(to(users("ann"), words), sourceCall{began: time.Now()})
		call, err := newSendCall(o)
		if err != nil {
			t.Fatal(err)
		}
		if e.Execute(t.Context(), call.Forward, mesh.Scope{}, &burst).Awaited != nil {
			t.Fatal("a send that waits for nothing waits")
		}
	}
	if n := ann.written(); n != 0 {
		t.Errorf("%d writes before the burst is flushed", n)
	}
	burst.Flush()
	if n := ann.written(); n != 1 || ann.received() != "a|b|c|" {
		t.Errorf("%q in %d writes", ann.received(), n)
	}
}
