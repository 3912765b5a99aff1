package chaos

import (
	"context"

	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/test/chaos/verdict"
)

// watchEvents records the ends of connections of which a hub tells backends, until the hub or the
// context ends.
func (r *run) watchEvents(ctx context.Context, h *hub) {
	for {
		r.watchOnce(ctx, h)
		select {
		case <-h.Ended:
			return
		case <-ctx.Done():
			return
		default:
			pause(ctx, retryAfter)
		}
	}
}

// watchOnce is watchEvents until a subscription breaks.
func (r *run) watchOnce(ctx context.Context, h *hub) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := eventsv1.NewEventServiceClient(h.backends[watcher]).Subscribe(ctx)
	if err != nil {
		return
	}
	err = stream.Send(&eventsv1.SubscribeRequest{Subscription: &eventsv1.Subscription{
		Kinds: []eventsv1.EventKind{eventsv1.EventKind_EVENT_KIND_DISCONNECTED},
	}})
	for err == nil {
		var response *eventsv1.SubscribeResponse
		if response, err = stream.Recv(); err != nil {
			return
		}
		for _, e := range response.GetEvents() {
			if e.GetDisconnected() != nil {
				r.record.add(verdict.Event{
					Kind: verdict.Disconnected, Connection: e.GetConnection(), Hub: h.Hub,
				})
			}
		}
	}
}
