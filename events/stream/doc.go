// Package stream is the way out of events that a backend dials: EventService.Subscribe of
// connhub.events.v1.
//
// # Life of a stream
//
// The backend's first request has the subscription. The service subscribes at the Broker, says
// "subscribed", and then gives each batch that it takes in a response, until the subscription is
// over. The file event.go turns events into messages of the API.
//
// # Goroutines
//
// A stream has gRPC's handler, which waits for the end, and two more: a goroutine writes and a
// goroutine reads. A write to a subscriber that does not read can only be ended by the end of its
// stream, so the handler must not wait in it. Both end when the stream does, which may be a moment
// after the handler has returned.
//
// # Locking
//
// None: a stream has no state but its subscription.
//
// # Backpressure
//
// A response is written before the next batch is taken. Until then events wait in the subscription,
// which is bounded. Responses are bounded by maxBatch and maxBatchBytes.
//
// # Errors
//
// An error that ends a stream names its reason in the API (errors.go); the server of the API turns
// it into a status.
package stream
