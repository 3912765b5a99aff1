package events

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"

	"google.golang.org/grpc"

	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/hub"
)

const (
	// maxBatch is the most events in a response.
	maxBatch = 256
	// maxBatchBytes is when a response is full. With one more message it is still below the 4 MiB that gRPC's clients take
	// unless told otherwise.
	maxBatchBytes = 1 << 20
)

// filter is which events somebody subscribed to. Immutable.
type filter struct {
	namespaces []string
	kinds      []eventsv1.EventKind // none: all
	names      []string             // of messages; none: all
}

func newFilter(s *eventsv1.Subscription) filter {
	f := filter{namespaces: s.GetNamespaces(), kinds: s.GetKinds(), names: s.GetMessageNames()}
	if len(f.namespaces) == 0 {
		f.namespaces = []string{hub.DefaultNamespace}
	}
	return f
}

func (f *filter) selects(who *hub.Identity, kind eventsv1.EventKind, message *hub.Event) bool {
	return slices.Contains(f.namespaces, who.Namespace) &&
		(len(f.kinds) == 0 || slices.Contains(f.kinds, kind)) &&
		(message == nil || len(f.names) == 0 || slices.Contains(f.names, message.Name))
}

// subscriber is one stream of events.
type subscriber struct {
	// Static.
	filter filter
	news   chan struct{} // holds one when there is something to tell
	over   chan struct{} // closed when err is set

	mu        sync.Mutex
	queue     *queue
	leaving   bool  // the hub is
	finishing bool  // nothing more will happen
	err       error // the stream ends with it, at once
}

func newSubscriber(s *eventsv1.Subscription, l Limits, of Account) *subscriber {
	return &subscriber{filter: newFilter(s), queue: newQueue(l, &room{account: of}), news: make(chan struct{}, 1), over: make(chan struct{})}
}

// put queues an event, or drops it. Neither is true when the stream has ended, or ends with this event.
func (s *subscriber) put(e *event) (queued, dropped bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false, false
	}
	dropped, err := s.queue.put(e)
	if err != nil {
		s.endLocked(err)
	}
	s.notify()
	return err == nil && !dropped, dropped
}

// goAway has the backend told that the hub leaves.
func (s *subscriber) goAway() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	s.notify()
}

// finish ends the stream after what waits was given.
func (s *subscriber) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finishing = true
	s.notify()
}

// end ends the stream with an error, at once. The first one counts.
func (s *subscriber) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(err)
}

// endEmpty ends the stream of a hub that leaves, unless something has been queued meanwhile: what is queued is given.
func (s *subscriber) endEmpty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.queue.empty() {
		return false
	}
	s.endLocked(hub.ErrShuttingDown)
	return true
}

func (s *subscriber) endLocked(err error) {
	if s.err == nil {
		s.err = err
		s.queue.give(s.queue.events[s.queue.head:])
		s.queue = newQueue(Limits{}, s.queue.room) // nobody takes it any more
		close(s.over)
	}
}

func (s *subscriber) notify() {
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Subscribe implements the RPC.
//
// The handler waits for the end and does nothing else: see doc.go.
func (b *Broker) Subscribe(stream eventStream) error {
	request, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil // nothing was asked for
	}
	if err != nil {
		return err
	}
	s := newSubscriber(request.GetSubscription(), b.config.Limits, b.accountOf(stream.Context()))
	if err := b.add(s); err != nil {
		return err
	}
	defer b.remove(s)
	ctx := stream.Context()
	defer context.AfterFunc(ctx, func() { s.end(ctx.Err()) })()
	go s.listen(stream)
	go func() { s.end(s.tell(b, stream)) }()
	<-s.over
	return s.err
}

// eventStream is a stream of the service.
type eventStream = grpc.BidiStreamingServer[eventsv1.SubscribeRequest, eventsv1.SubscribeResponse]

// listen hears what the subscriber says after its first request: nothing, or that nothing will follow.
func (s *subscriber) listen(stream eventStream) {
	_, err := stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
	case err != nil:
		s.end(err)
	default:
		s.end(ErrSubscribed)
	}
}

// tell gives the subscriber what there is until the stream is over, and returns why.
func (s *subscriber) tell(b *Broker, stream eventStream) error {
	if err := stream.Send(&eventsv1.SubscribeResponse{Subscribed: &eventsv1.Subscribed{Hub: string(b.config.Hub)}}); err != nil {
		return err
	}
	farewell := false // the backend knows that the hub leaves
	var spare []*event
	for {
		events, leaving, last := s.next(spare[:0])
		if leaving && !farewell || len(events) > 0 {
			response := &eventsv1.SubscribeResponse{Events: make([]*eventsv1.Event, len(events))}
			for i, e := range events {
				response.Events[i] = e.proto(b.config.Hub)
			}
			if leaving && !farewell {
				farewell, response.GoingAway = true, &eventsv1.GoingAway{}
			}
			err := stream.Send(response)
			s.give(events)
			if err != nil {
				return err
			}
			b.metrics.told(events)
			clear(events)
			spare = events
			continue
		}
		if last && s.endEmpty() {
			return hub.ErrShuttingDown
		}
		if last {
			continue
		}
		select {
		case <-s.news:
		case <-s.over:
			return s.err
		}
	}
}

// give says that events which next returned are given, or never will be.
func (s *subscriber) give(events []*event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.give(events)
}

// next returns the next events, whether the hub leaves, and whether there will be no more.
func (s *subscriber) next(dst []*event) (events []*event, leaving, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	events = s.queue.take(dst, maxBatch, maxBatchBytes)
	return events, s.leaving, s.finishing && s.queue.empty()
}
