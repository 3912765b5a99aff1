package stream

import (
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"

	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/events"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
)

// The smallest hub, and a backend with one connection: the way of a caller that takes the most.
func TestASmallHubHasRoomForAllSubscribers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBedOf(t, control.MinCallBytes)
		var streams []*stream
		for range events.DefaultConfig().MaxSubscribers {
			streams = append(streams, b.subscribe(t, &eventsv1.Subscription{}))
		}
		_, err := b.open(t, &eventsv1.Subscription{}).end()
		holdError(t, err, codes.ResourceExhausted, "TOO_MANY_SUBSCRIBERS")
		b.attach(t, hub.Admission{User: "ann"})
		for _, s := range streams {
			if e := s.next(t, 1)[0]; e.GetConnected() == nil {
				t.Errorf("%v, want connected", e)
			}
		}
	})
}

// Events that wait for a subscriber count for its caller, which keeps room for calls. Events that
// are read, or whose stream is over, count no more.
func TestEventsThatWaitCountForTheirCaller(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b := newBedOf(t, control.MinCallBytes)
		s := b.subscribe(t, &eventsv1.Subscription{
			Kinds: []eventsv1.EventKind{kindMessage},
		})
		synctest.Wait()
		idle := b.heldBytes(t)
		most := int64(control.MinCallBytes / 3 / events.DefaultConfig().MaxSubscribers)
		if idle > most {
			t.Errorf("an idle subscription holds %d bytes, want %d at most", idle, most)
		}
		c := b.attach(t, hub.Admission{User: "ann"})
		const sent = 200 // of 100 KB: more than a sixth of the budget, and than the queue takes
		for range sent {
			payload := []byte(strings.Repeat("x", 100<<10))
			_, _ = c.Emit(&hub.ClientEvent{Name: "flood", Kind: hub.Text, Payload: payload})
		}
		synctest.Wait()
		held, third := b.heldBytes(t), int64(control.MinCallBytes/3)
		if held < third/4 || held > third-third/4 {
			t.Errorf("%d bytes are held while %d events wait, want about half of %d",
				held, sent, third)
		}
		var read, missed int64
		for read+missed < sent {
			r, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range r.GetEvents() {
				missed += e.GetGap().GetCount()
				if e.GetMessage() != nil {
					read++
				}
			}
		}
		synctest.Wait()
		if held := b.heldBytes(t); held != idle || missed == 0 || read == 0 {
			t.Errorf("%d bytes are held when all was read, want %d; %d were read and %d missed",
				held, idle, read, missed)
		}
	})
}
