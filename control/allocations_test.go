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
	request := to(users("ann"), "hello")
	var burst hub.Burst
	for name, begin := range map[string]func() (*activeSend, error){
		"of a stream": func() (*activeSend, error) {
			defer burst.Flush()
			return d.beginSend(t.Context(), request, sourceCall{}, &burst)
		},
		"of its own": func() (*activeSend, error) { return d.beginAndWrite(t.Context(), request) },
	} {
		send := func() {
			sending, err := begin()
			if err != nil {
				t.Fatal(err)
			}
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
			t.Errorf("a send %s: %v objects, want %d", name, least, most)
		}
	}
}
