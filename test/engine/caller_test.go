//go:build bench && linux

package engine

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// secret is the backend's secret.
const secret = "a-secret-of-a-benchmark-and-nobody-else"

// stride is the distance between users in turn. It is a prime of which no crowd is a multiple, so
// all users get their turn.
const stride = 7919

// caller is a backend, in the load's process. Its connections and streams stay open.
type caller struct {
	address string
	ctx     context.Context
	clients []controlv1.DeliveryServiceClient // each with a connection of its own
	streams map[fanIn][]*sendStream
}

// fanIn is the number of connections and streams that a call uses at the same time.
type fanIn struct{ connections, streams int }

// sendStream is a stream of a caller.
type sendStream struct {
	grpc.BidiStreamingClient[controlv1.SendStreamRequest, controlv1.SendStreamResponse]

	sequence int64
}

func newCaller(address string) *caller {
	return &caller{
		address: address, streams: map[fanIn][]*sendStream{},
		ctx: metadata.AppendToOutgoingContext(
			context.Background(), "authorization", "Bearer "+secret,
		),
	}
}

func (c *crowd) call(o *call) error {
	who := c.callers[o.Address]
	if who == nil {
		who = newCaller(o.Address)
		c.callers[o.Address] = who
	}
	if err := who.connect(o.fanIn().connections); err != nil {
		return err
	}
	if o.Unary {
		return who.unary(o)
	}
	return who.streamed(o)
}

// connect opens connections until there are as many as wanted.
func (c *caller) connect(wanted int) error {
	for len(c.clients) < wanted {
		conn, err := grpc.NewClient(
			c.address, grpc.WithTransportCredentials(insecure.NewCredentials()),
		)
		if err != nil {
			return err
		}
		c.clients = append(c.clients, controlv1.NewDeliveryServiceClient(conn))
	}
	return nil
}

// open returns the streams of a fan-in, which take turns in the connections.
func (c *caller) open(s fanIn) ([]*sendStream, error) {
	for i := len(c.streams[s]); i < s.streams; i++ {
		stream, err := c.clients[i%s.connections].SendStream(c.ctx)
		if err != nil {
			return nil, err
		}
		c.streams[s] = append(c.streams[s], &sendStream{BidiStreamingClient: stream})
	}
	return c.streams[s], nil
}

// inParts calls do for each of so many parts at the same time, and returns the error of a part.
func inParts(parts int, do func(part int) error) error {
	failed := make(chan error, parts)
	var group sync.WaitGroup
	for part := range parts {
		group.Go(func() {
			if err := do(part); err != nil {
				failed <- err
			}
		})
	}
	group.Wait()
	close(failed)
	return <-failed
}

func (c *caller) unary(o *call) error {
	p, err := newPlan(o)
	if err != nil {
		return err
	}
	defer p.close()
	return inParts(o.InFlight, func(part int) error {
		client := c.clients[part%o.fanIn().connections]
		for {
			request, ok, err := p.take()
			if err != nil || !ok {
				return err
			}
			o.stamp(request)
			response, err := client.Send(c.ctx, request)
			if err == nil {
				err = o.check(response.GetReceipt())
			}
			if err != nil {
				return err
			}
		}
	})
}

func (c *caller) streamed(o *call) error {
	streams, err := c.open(o.fanIn())
	if err != nil {
		return err
	}
	p, err := newPlan(o)
	if err != nil {
		return err
	}
	defer p.close()
	return inParts(len(streams), func(part int) error {
		return streams[part].run(o, p, o.Count/len(streams))
	})
}

// run sends so many sends of a plan, and waits for their results.
func (s *sendStream) run(o *call, p *plan, count int) error {
	slots := make(chan struct{}, max(o.InFlight*o.Batch/o.fanIn().streams, 1))
	sent := make(chan error, 1)
	go func() { sent <- s.send(o, p, count, slots) }()
	for results := 0; results < count; {
		response, err := s.Recv()
		if err != nil {
			return err
		}
		for _, result := range response.GetResults() {
			if err := o.check(result.GetReceipt()); err != nil {
				return fmt.Errorf("%w; %v", err, result.GetError())
			}
			<-slots
			results++
		}
	}
	return <-sent
}

// send sends requests while there are slots for their sends.
func (s *sendStream) send(o *call, p *plan, count int, slots chan<- struct{}) error {
	request := &controlv1.SendStreamRequest{}
	for i := range count {
		slots <- struct{}{}
		send, _, err := p.take()
		if err != nil {
			return err
		}
		s.sequence++
		request.Sends = append(
			request.Sends, &controlv1.StreamedSend{Sequence: s.sequence, Send: send},
		)
		if len(request.Sends) == o.Batch || i == count-1 {
			for _, one := range request.Sends {
				o.stamp(one.Send)
			}
			if err := s.Send(request); err != nil {
				return err
			}
			request = &controlv1.SendStreamRequest{}
		}
	}
	return nil
}

// plan hands out the sends of a call. It is safe for concurrent use.
type plan struct {
	call  *call
	began time.Duration
	clock *alarm // nil: the call has no rate

	mu   sync.Mutex
	next int
}

func newPlan(o *call) (*plan, error) {
	p := &plan{call: o, began: clockTime(clockMonotonic)}
	if o.Rate == 0 {
		return p, nil
	}
	var err error
	p.clock, err = newAlarm()
	return p, err
}

func (p *plan) close() {
	if p.clock != nil {
		_ = p.clock.Close()
	}
}

// take returns the next send, or false after the last. With a rate it waits until the send is due.
// The stamp of such a send is the time when it was due, even if the hub or this process is late:
// a hub that stalls cannot hide the stall by stalling its callers ("coordinated omission").
func (p *plan) take() (*controlv1.SendRequest, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next == p.call.Count {
		return nil, false, nil
	}
	request := p.call.request(p.next)
	if p.clock != nil {
		due := p.began + time.Duration(p.next)*time.Second/time.Duration(p.call.Rate)
		if err := p.clock.wait(due); err != nil {
			return nil, false, err
		}
		request.Message.Payload = &controlv1.Message_Text{Text: stampedAt(p.call.Text, due)}
	}
	p.next++
	return request, true, nil
}
