package events

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"pgregory.net/rapid"

	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
)

// watcher is a subscriber that reads in the background, when it may.
type watcher struct {
	pipe

	of     *eventsv1.Subscription
	since  map[hub.ConnectionID]int // of what happened, how much it came too late for
	may    chan struct{}            // closed when it may read
	events []*eventsv1.Event
	done   chan struct{}
}

// pipe is the hub's side of a stream. What is sent waits for who reads it.
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
		return p.ctx.Err()
	}
}

func (p *pipe) Recv() (*eventsv1.SubscribeRequest, error) {
	select {
	case r := <-p.requests:
		return r, nil
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

// happened is an event as it is known to a test.
type happened struct {
	kind eventsv1.EventKind
	name string
}

func TestEachSubscriberHasTheEventsOfEachConnectionInOrderWithoutHoles(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) { synctest.Test(t, func(t *testing.T) { liveThroughEvents(t, rt) }) })
}

// liveThroughEvents has connections cause events for subscribers, of which some do not read before the end.
func liveThroughEvents(t *testing.T, rt *rapid.T) {
	b := newBareBed(t, func(c *Config) { c.Limits.Messages = rapid.IntRange(1, 4).Draw(rt, "messages") })
	truth := map[hub.ConnectionID][]happened{}
	var open []*client
	var watchers []*watcher
	for range rapid.IntRange(5, 100).Draw(rt, "steps") {
		switch action := rapid.IntRange(0, 9).Draw(rt, "action"); {
		case action == 0 && len(watchers) < 4:
			watchers = append(watchers, b.newWatcher(t, rt, truth))
		case action <= 2 || len(open) == 0:
			c := b.attach(t, hub.Admission{})
			open = append(open, c)
			truth[c.ID()] = []happened{{eventsv1.EventKind_EVENT_KIND_CONNECTED, ""}}
		case action == 3:
			i := rapid.IntRange(0, len(open)-1).Draw(rt, "closes")
			c := open[i]
			open = append(open[:i], open[i+1:]...)
			c.Close(1000, "")
			truth[c.ID()] = append(truth[c.ID()], happened{eventsv1.EventKind_EVENT_KIND_DISCONNECTED, ""})
		default:
			c := rapid.SampledFrom(open).Draw(rt, "emits")
			name := rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "name")
			c.emit(t, name, hub.Text, "")
			truth[c.ID()] = append(truth[c.ID()], happened{eventsv1.EventKind_EVENT_KIND_MESSAGE, name})
		}
		if rapid.Bool().Draw(rt, "pause") {
			synctest.Wait()
		}
	}
	synctest.Wait()
	for _, w := range watchers {
		select {
		case <-w.may:
		default:
			close(w.may)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.broker.Shutdown(ctx); err != nil {
		rt.Fatal(err)
	}
	for _, w := range watchers {
		<-w.done
		w.check(rt, truth)
	}
}

func (b *bed) newWatcher(t *testing.T, rt *rapid.T, truth map[hub.ConnectionID][]happened) *watcher {
	ctx, cancel := context.WithCancel(t.Context())
	w := &watcher{
		pipe: pipe{ctx: ctx, requests: make(chan *eventsv1.SubscribeRequest, 1), responses: make(chan *eventsv1.SubscribeResponse)},
		of:   &eventsv1.Subscription{}, since: map[hub.ConnectionID]int{}, may: make(chan struct{}), done: make(chan struct{}),
	}
	if rapid.Bool().Draw(rt, "selects") {
		w.of.MessageNames = []string{"a"}
	}
	w.requests <- &eventsv1.SubscribeRequest{Subscription: w.of}
	go func() {
		_ = b.broker.Subscribe(w)
		cancel() // as gRPC does
	}()
	<-w.responses // it is in force
	for id, all := range truth {
		w.since[id] = len(all)
	}
	if rapid.Bool().Draw(rt, "reads") {
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

// check holds what the watcher got against what happened.
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
				if h.kind != eventsv1.EventKind_EVENT_KIND_MESSAGE || missing > gap.GetCount() || e.GetOrdinal() < int64(i+1) {
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
			if e.GetOrdinal() != int64(i+1) || e.GetMessage().GetName() != h.name || e.GetId() != fmt.Sprintf("%s/%d", id, i+1) {
				t.Fatalf("%s: event %d, %v, is %v", id, i+1, h, e)
			}
			rest = rest[1:]
		}
		if len(rest) > 0 {
			t.Fatalf("%s: too much: %v", id, rest)
		}
	}
}
