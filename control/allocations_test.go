package control

import (
	"math"
	"testing"

	"github.com/connhub/connhub/hub"
)

// A send to a client of this hub allocates what outlives it, and no more: its message, the
// message's id and bytes, the state that the client's outbox refers to, and the receipt.
func TestASendAllocatesOnlyWhatOutlivesIt(t *testing.T) {
	const most = 5
	f := newFixture(t)
	f.connect(t, &tinyProtocol{}, "ann")
	d := &deliveryService{router: &router{hub: f.hub}}
	var burst hub.Burst
	request := to(users("ann"), "hello")
	send := func() {
		sending, err := d.beginSend(t.Context(), request, sourceCall{}, &burst)
		if err != nil {
			t.Fatal(err)
		}
		burst.Flush()
		if _, err := sending.Receipt(t.Context()); err != nil {
			t.Fatal(err)
		}
		sending.recycleSend()
	}
	// Pools forget at times, most often under the race detector. So the least of many counts.
	least := math.Inf(1)
	for range 100 {
		least = min(least, testing.AllocsPerRun(1, send))
	}
	if least > most {
		t.Errorf("%v objects, want %d", least, most)
	}
}
