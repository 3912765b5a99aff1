package stream

import (
	"cmp"
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	"github.com/connhub/connhub/events"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
)

const (
	// maxBatch is the most events in a response.
	maxBatch = 256
	// maxBatchBytes is how many bytes of events make a response full. With a message more it is
	// still below the 4 MiB that clients of gRPC take by default.
	maxBatchBytes = 1 << 20
)

// AccountOf returns the account of the caller of a stream, by the context of the stream.
type AccountOf func(context.Context) events.Account

// Service is EventService of the API. It is safe for concurrent use.
type Service struct {
	eventsv1.UnimplementedEventServiceServer

	// Static.
	broker    *events.Broker
	accountOf AccountOf // may be nil
}

var _ eventsv1.EventServiceServer = (*Service)(nil)

// New returns a Service that gives the events of b. The events that wait for a stream count in the
// account of its caller. A nil of: the Broker's limits alone bound them.
func New(b *events.Broker, of AccountOf) *Service { return &Service{broker: b, accountOf: of} }

// Register registers the service at a server.
func (s *Service) Register(r grpc.ServiceRegistrar) { eventsv1.RegisterEventServiceServer(r, s) }

// eventStream is a stream of the service.
type eventStream = grpc.BidiStreamingServer[eventsv1.SubscribeRequest, eventsv1.SubscribeResponse]

// Subscribe implements the RPC.
//
// The handler only waits for the end: doc.go says why.
func (s *Service) Subscribe(stream eventStream) error {
	request, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil // the backend asked for nothing
	}
	ctx := stream.Context()
	if err != nil {
		return cmp.Or(ctx.Err(), err)
	}
	var account events.Account
	if s.accountOf != nil {
		account = s.accountOf(ctx)
	}
	subscription, err := s.broker.Subscribe(newFilter(request.GetSubscription()), account)
	if err != nil {
		return withReason(err)
	}
	defer s.broker.Unsubscribe(subscription)
	defer context.AfterFunc(ctx, func() { subscription.End(ctx.Err()) })()
	go awaitRequest(stream, subscription)
	go func() { subscription.End(s.writeEvents(stream, subscription)) }()
	<-subscription.Over()
	// Recv and Send may be the first to tell that the backend is gone. Their status is no error of
	// this service, and would count as a fault of the hub.
	return cmp.Or(ctx.Err(), withReason(subscription.Err()))
}

// awaitRequest waits until the backend closes its side. A second request ends the stream.
func awaitRequest(stream eventStream, s *events.Subscription) {
	_, err := stream.Recv()
	switch {
	case errors.Is(err, io.EOF):
	case err != nil:
		s.End(err)
	default:
		s.End(ErrSubscribed)
	}
}

// writeEvents writes all batches of the subscription until it is over, and returns why it is.
func (s *Service) writeEvents(stream eventStream, from *events.Subscription) error {
	hub := s.broker.Hub()
	first := &eventsv1.SubscribeResponse{Subscribed: &eventsv1.Subscribed{Hub: string(hub)}}
	if err := stream.Send(first); err != nil {
		return err
	}
	var spare []*events.Event
	for {
		batch := from.Take(spare, maxBatch, maxBatchBytes)
		if batch.IsEmpty() {
			select {
			case <-from.News():
				continue
			case <-from.Over():
				return from.Err()
			}
		}
		err := stream.Send(newResponse(batch, hub))
		from.Release(batch, err == nil)
		if err != nil {
			return err
		}
		clear(batch.Events)
		spare = batch.Events
	}
}
