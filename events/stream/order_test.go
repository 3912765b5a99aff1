package stream

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/events"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
)

// watcher is a subscriber that reads in the background, when it may.
type watcher struct {
	pipe

	of     *eventsv1.Subscription
	since  map[hub.ConnectionID]int // how many events had happened before it subscribed
	reads  bool                     // at once
	may    chan struct{}            // closed when it reads
	events []*eventsv1.Event
	done   chan struct{}
}

// pipe is the hub's side of a stream. Each response waits until the subscriber reads it.
type pipe struct {
	grpc.ServerStream

	ctx       context.Context
	requests  chan *eventsv1.SubscribeRequest
	responses chan *eventsv1.SubscribeResponse
}

func (p *pipe) Context() context.Context { return p.ctx }

func (p *pipe) Send(r *eventsv1.SubscribeResponse) error {
	select {
	case p.responses <- r:
		return nil
	case <-p.ctx.Done():
		return status.FromContextError(p.ctx.Err()).Err() // as gRPC does
	}
}

func (p *pipe) Recv() (*eventsv1.SubscribeRequest, error) {
	select {
	case r := <-p.requests:
		return r, nil
	case <-p.ctx.Done():
		return nil, status.FromContextError(p.ctx.Err()).Err()
	}
}

// happened is an event as it is known to a test.
type happened struct {
	kind eventsv1.EventKind
	name string
}

// step is a thing that happens: a watcher subscribes, or a connection begins, ends, or sends
// something.
type step struct {
	action         int
	pick           int // which connection, counted around
	name           string
	selects, reads bool // the subscriber takes some names only; it reads at once
	pause          bool // everybody gets on with it before the next
}

var anyStep = rapid.Custom(func(t *rapid.T) step {
	return step{
		rapid.IntRange(0, 9).Draw(t, "action"), rapid.IntRange(0, 100).Draw(t, "pick"),
		rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"),
		rapid.Bool().Draw(t, "selects"), rapid.Bool().Draw(t, "reads"),
		rapid.Bool().Draw(t, "pause"),
	}
})

func TestEachSubscriberHasTheEventsOfEachConnectionInOrderWithoutHoles(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		messages := rapid.IntRange(1, 4).Draw(rt, "messages")
		steps := rapid.SliceOfN(anyStep, 5, 100).Draw(rt, "steps")
		truth := map[hub.ConnectionID][]happened{}
		var watchers []*watcher
		synctest.Test(t, func(t *testing.T) {
			b := newBareBed(t, func(c *events.Config) { c.Limits.Messages = messages })
			watchers = liveThroughEvents(t, b, steps, truth)
		})
		for _, w := range watchers {
			w.check(rt, truth)
		}
	})
}

// liveThroughEvents has connections cause events for subscribers, of which some do not read before
// the end. It adds the events to truth.
func liveThroughEvents(
	t *testing.T, b *bed, steps []step, truth map[hub.ConnectionID][]happened,
) (watchers []*watcher) {
	var open []*client
	for _, s := range steps {
		switch {
		case s.action == 0 && len(watchers) < 4:
			watchers = append(watchers, b.newWatcher(t, s, truth))
		case s.action <= 2 || len(open) == 0:
			c := b.attach(t, hub.Admission{})
			open = append(open, c)
			truth[c.ID()] = []happened{{kindConnected, ""}}
		case s.action == 3:
			i := s.pick % len(open)
			c := open[i]
			open = slices.Delete(open, i, i+1)
			c.Close(1000, "")
			truth[c.ID()] = append(truth[c.ID()], happened{kindDisconnected, ""})
		default:
			c := open[s.pick%len(open)]
			c.emit(t, s.name, hub.Text, "")
			truth[c.ID()] = append(truth[c.ID()], happened{kindMessage, s.name})
		}
		if s.pause {
			synctest.Wait()
		}
	}
	synctest.Wait()
	for _, w := range watchers {
		if !w.reads {
			close(w.may)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.broker.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	for _, w := range watchers {
		<-w.done
	}
	return watchers
}

func (b *bed) newWatcher(t *testing.T, s step, truth map[hub.ConnectionID][]happened) *watcher {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{
		pipe: pipe{
			ctx:       ctx,
			requests:  make(chan *eventsv1.SubscribeRequest, 1),
			responses: make(chan *eventsv1.SubscribeResponse),
		},
		of: &eventsv1.Subscription{}, since: map[hub.ConnectionID]int{},
		reads: s.reads, may: make(chan struct{}), done: make(chan struct{}),
	}
	if s.selects {
		w.of.MessageNames = []string{"a"}
	}
	w.requests <- &eventsv1.SubscribeRequest{Subscription: w.of}
	go func() {
		_ = b.service.Subscribe(w)
		cancel() // as gRPC does
	}()
	<-w.responses // it is in force
	for id, all := range truth {
		w.since[id] = len(all)
	}
	if s.reads {
		close(w.may)
	}
	go w.read()
	return w
}

func (w *watcher) read() {
	defer close(w.done)
	<-w.may
	for {
		select {
		case r := <-w.responses:
			w.events = append(w.events, r.GetEvents()...)
		case <-w.ctx.Done():
			return
		}
	}
}

// check compares the events that the watcher got with the truth.
func (w *watcher) check(t *rapid.T, truth map[hub.ConnectionID][]happened) {
	got := map[hub.ConnectionID][]*eventsv1.Event{}
	for _, e := range w.events {
		id := hub.ConnectionID(e.GetConnection())
		got[id] = append(got[id], e)
	}
	for id, all := range truth {
		rest := got[id]
		missing := int64(0) // of the gap that comes next
		for i, h := range all {
			if i < w.since[id] || len(w.of.GetMessageNames()) > 0 && h.name == "b" {
				continue
			}
			if len(rest) == 0 {
				t.Fatalf("%s: event %d is missing", id, i+1)
			}
			e := rest[0]
			if gap := e.GetGap(); gap != nil {
				missing++
				isMessage := h.kind == kindMessage
				if !isMessage || missing > gap.GetCount() || e.GetOrdinal() < int64(i+1) {
					t.Fatalf("%s: event %d, %v, is in %v", id, i+1, h, e)
				}
				if missing == gap.GetCount() {
					if e.GetOrdinal() != int64(i+1) {
						t.Fatalf("%s: a gap ends with %d, not %d", id, i+1, e.GetOrdinal())
					}
					rest, missing = rest[1:], 0
				}
				continue
			}
			if e.GetOrdinal() != int64(i+1) || e.GetMessage().GetName() != h.name ||
				e.GetId() != fmt.Sprintf("%s/%d", id, i+1) {
				t.Fatalf("%s: event %d, %v, is %v", id, i+1, h, e)
			}
			rest = rest[1:]
		}
		if len(rest) > 0 {
			t.Fatalf("%s: too much: %v", id, rest)
		}
	}
}
