//go:build bench && linux

package engine

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// answerer answers each send with a receipt and does nothing else. It shows the cost of gRPC alone.
type answerer struct {
	controlv1.UnimplementedDeliveryServiceServer
}

func written() *controlv1.Receipt {
	return &controlv1.Receipt{
		MessageId: "abcdefghijklmnopqrstuvwxyz.1", Matched: 1, Written: 1, NotAckable: 1,
	}
}

// Send answers at once.
func (answerer) Send(context.Context, *controlv1.SendRequest) (*controlv1.SendResponse, error) {
	return &controlv1.SendResponse{Receipt: written()}, nil
}

// SendStream answers each request at once.
func (answerer) SendStream(
	stream grpc.BidiStreamingServer[controlv1.SendStreamRequest, controlv1.SendStreamResponse],
) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		response := &controlv1.SendStreamResponse{}
		for _, one := range request.GetSends() {
			response.Accepted = one.GetSequence()
			response.Results = append(response.Results, &controlv1.StreamedResult{
				Sequence: one.GetSequence(),
				Outcome:  &controlv1.StreamedResult_Receipt{Receipt: written()},
			})
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

// serveAnswerer serves an answerer until the process ends, and returns its address.
func serveAnswerer() (string, error) {
	l, err := listen()
	if err != nil {
		return "", err
	}
	server := grpc.NewServer()
	controlv1.RegisterDeliveryServiceServer(server, answerer{})
	go func() { _ = server.Serve(l) }()
	return l.Addr().String(), nil
}
