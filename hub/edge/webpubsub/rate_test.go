package webpubsub_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub"
)

// Clients confirm once a second, and that is no reason to close a client that reads: 5,000 messages
// a second for a minute, by the bubble's clock.
func TestHealthyClientAt5000MessagesASecondIsNotClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBed(t)
		c := b.connect(t, b.reliable(), "ann")
		const perTick, ticks = 50, 100 // in a second
		next := 1
		for range 60 {
			for range ticks {
				for range perTick {
					d, err := b.hub.Deliver(t.Context(), &hub.Send{
						Message: &hub.Message{
							Namespace: hub.DefaultNamespace, Kind: hub.Text,
							Payload: []byte(strings.Repeat("x", 128)),
						},
						Target: hub.Target{Users: []string{"ann"}},
					})
					if err != nil {
						t.Fatal(err)
					}
					if r := d.Receipt(); r.Written != 1 {
						t.Fatalf("message %d: %+v", next, r)
					}
				}
				time.Sleep(time.Second / ticks)
				for _, m := range c.messages() {
					if !strings.HasPrefix(m, fmt.Sprintf(`{"sequenceId":%d,`, next)) {
						t.Fatalf("got %.60s, want %d", m, next)
					}
					next++
				}
			}
			c.do(fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, next-1))
		}
		info := c.Info()
		if next != 60*ticks*perTick+1 || info.LastAcked != uint64(next-1) ||
			info.UnackedMessages != 0 {
			t.Errorf("%d messages, %+v", next-1, info)
		}
	})
}
