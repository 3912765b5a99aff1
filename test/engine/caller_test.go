//go:build bench && linux

package engine

import (
	"context"
	"fmt"
	"sync"

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

// caller is a backend with a single stream and connection, in the load's process.
type caller struct {
	client   controlv1.DeliveryServiceClient
	ctx      context.Context
	stream   grpc.BidiStreamingClient[controlv1.SendStreamRequest, controlv1.SendStreamResponse]
	sequence int64
	user     int // the user of the previous send
}

func newCaller(address string) (*caller, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	c := &caller{client: controlv1.NewDeliveryServiceClient(conn)}
	c.ctx = metadata.AppendToOutgoingContext(
		context.Background(), "authorization", "Bearer "+secret,
	)
	c.stream, err = c.client.SendStream(c.ctx)
	return c, err
}

func (c *crowd) call(o *call) error {
	who := c.callers[o.Address]
	if who == nil {
		var err error
		if who, err = newCaller(o.Address); err != nil {
			return err
		}
		c.callers[o.Address] = who
	}
	if o.Unary {
		return who.unary(o)
	}
	return who.streamed(o)
}

// request returns the i-th send of a call.
func (c *caller) request(o *call, i int) *controlv1.SendRequest {
	target := &controlv1.Target{}
	switch {
	case o.Users > 0:
		c.user = (c.user + stride) % o.Users
		target.Users = []string{fmt.Sprintf("user-%011d", o.First+c.user)}
	case len(o.Groups) > 0:
		target.Groups = []string{o.Groups[i%len(o.Groups)]}
	default:
		target.Everyone = true
	}
	return &controlv1.SendRequest{
		Namespace: o.Namespace, Target: target,
		Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: o.Text}},
	}
}

// stamp writes the time into a request that is about to be sent.
func (o *call) stamp(request *controlv1.SendRequest) {
	if o.Stamp {
		request.Message.Payload = &controlv1.Message_Text{Text: stamped(o.Text)}
	}
}

func (o *call) check(receipt *controlv1.Receipt) error {
	if o.Matched > 0 && int(receipt.GetMatched()) != o.Matched {
		return fmt.Errorf("receipt %v, want %d matched", receipt, o.Matched)
	}
	return nil
}

func (c *caller) unary(o *call) error {
	requests := make(chan *controlv1.SendRequest, o.Count)
	for i := range o.Count {
		requests <- c.request(o, i)
	}
	close(requests)
	failed := make(chan error, o.InFlight)
	var group sync.WaitGroup
	for range o.InFlight {
		group.Go(func() {
			for request := range requests {
				o.stamp(request)
				response, err := c.client.Send(c.ctx, request)
				if err == nil {
					err = o.check(response.GetReceipt())
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	return <-failed
}

func (c *caller) streamed(o *call) error {
	slots := make(chan struct{}, o.InFlight*o.Batch)
	sent := make(chan error, 1)
	go func() { sent <- c.send(o, slots) }()
	for results := 0; results < o.Count; {
		response, err := c.stream.Recv()
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
func (c *caller) send(o *call, slots chan<- struct{}) error {
	request := &controlv1.SendStreamRequest{}
	for i := range o.Count {
		slots <- struct{}{}
		c.sequence++
		request.Sends = append(
			request.Sends, &controlv1.StreamedSend{Sequence: c.sequence, Send: c.request(o, i)},
		)
		if len(request.Sends) == o.Batch || i == o.Count-1 {
			for _, one := range request.Sends {
				o.stamp(one.Send)
			}
			if err := c.stream.Send(request); err != nil {
				return err
			}
			request = &controlv1.SendStreamRequest{}
		}
	}
	return nil
}
