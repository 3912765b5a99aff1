//go:build !race

package edge_test

import (
	"io"
	"math"
	"strings"
	"testing"

	"github.com/connhub/connhub/hub"
)

// TestADeliveryAllocatesNothing counts the allocations of a message to few and to many clients.
// They are the same, except for a pool that is filled again. (Under the race detector pools
// forget.)
func TestADeliveryAllocatesNothing(t *testing.T) {
	const few, many, spare = 10, 110, 20
	for name, rest := range map[string]string{"as it is": "\r\n", "compressed": offer} {
		t.Run(name, func(t *testing.T) {
			eachSocket(t, func(t *testing.T, b *bed) {
				send := &hub.Send{
					Message: &hub.Message{
						Namespace: hub.DefaultNamespace, Kind: hub.Text,
						Payload: []byte(strings.Repeat("to everyone ", 10)),
					},
					Target: everyone,
				}
				perSend := func(clients int) float64 {
					for b.hub.Count(hub.DefaultNamespace, &everyone) < clients {
						c, _ := b.upgradeWith("", rest)
						go func() { _, _ = io.Copy(io.Discard, c.conn) }() // ends with the hub
						b.waitAttached(b.hub.Count(hub.DefaultNamespace, &everyone))
					}
					// On a busy machine clients read late, and queues grow. So the least of ten
					// counts.
					least := math.Inf(1)
					for range 10 {
						least = min(least, testing.AllocsPerRun(50, func() {
							b.deliver(t.Context(), send)
						}))
					}
					return least
				}
				little := perSend(few)
				if lot := perSend(many); lot > little+spare {
					t.Errorf("%s: %.0f allocations for %d clients, %.0f for %d", name, little, few,
						lot, many)
				}
			}, compressing, links)
		})
	}
}

func TestADeliveryToALinkWithAGoroutineAllocatesNothing(t *testing.T) {
	goroutinePerLink = true
	defer func() { goroutinePerLink = false }()
	TestADeliveryAllocatesNothing(t)
}
