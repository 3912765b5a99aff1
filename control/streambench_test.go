package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

// answerer answers each send with a receipt and does nothing else: the cost of gRPC, to compare
// with.
type answerer struct {
	controlv1.UnimplementedDeliveryServiceServer
}

func written() *controlv1.Receipt {
	return &controlv1.Receipt{MessageId: "abcdefgh.1", Matched: 1, Written: 1, NotAckable: 1}
}

func (answerer) Send(context.Context, *controlv1.SendRequest) (*controlv1.SendResponse, error) {
	return &controlv1.SendResponse{Receipt: written()}, nil
}

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

func newAnswerer(b *testing.B) controlv1.DeliveryServiceClient {
	b.Helper()
	l := testkit.ListenCable(1 << 20)
	server := grpc.NewServer()
	controlv1.RegisterDeliveryServiceServer(server, answerer{})
	go func() { _ = server.Serve(l) }()
	b.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(
		insecure.NewCredentials(),
	),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return l.DialContext(ctx)
		}))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return controlv1.NewDeliveryServiceClient(conn)
}

// tinyProtocol writes a byte, so that the test's client costs little.
type tinyProtocol struct{ wireProtocol }

func (*tinyProtocol) Encode(*hub.Message, hub.Route) []byte { return []byte{frameEnd} }

// benchmarkServers runs a benchmark with a hub that has a single client, and with a server that
// only answers.
func benchmarkServers(b *testing.B, run func(*testing.B, controlv1.DeliveryServiceClient)) {
	f := newFixture(b)
	f.connect(b, &tinyProtocol{}, "ann")
	b.Run("hub", func(b *testing.B) { run(b, f.delivery) })
	answers := newAnswerer(b)
	b.Run("answers only", func(b *testing.B) { run(b, answers) })
}

var benchmarked = to(
	users("ann"), "hello, this is a message of some length: 64 bytes or thereabouts",
)

func BenchmarkSend(b *testing.B) {
	benchmarkServers(b, func(b *testing.B, client controlv1.DeliveryServiceClient) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := client.Send(b.Context(), benchmarked); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkSendStream counts each send as an operation, in batches of several sizes.
func BenchmarkSendStream(b *testing.B) {
	for _, size := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			benchmarkServers(b, func(b *testing.B, client controlv1.DeliveryServiceClient) {
				benchmarkSendStream(b, client, benchmarked, size)
			})
		})
	}
}

// BenchmarkForwardedSend counts each send as an operation, to a client of a peer, in batches
// of a stream.
func BenchmarkForwardedSend(b *testing.B) {
	c := newCluster(b, 2)
	c.hubs[1].connect(b, &tinyProtocol{}, "ann")
	for _, wait := range []controlv1.Wait{controlv1.Wait_WAIT_QUEUED, controlv1.Wait_WAIT_WRITTEN} {
		b.Run(wait.String(), func(b *testing.B) {
			send := proto.CloneOf(benchmarked)
			send.Wait = wait
			benchmarkSendStream(b, c.hubs[0].delivery, send, 100)
		})
	}
}

func benchmarkSendStream(
	b *testing.B, client controlv1.DeliveryServiceClient, send *controlv1.SendRequest, size int,
) {
	stream, err := client.SendStream(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	results, responses := 0, 0
	read := make(chan error)
	go func() {
		for {
			response, err := stream.Recv()
			if err != nil {
				read <- err
				return
			}
			results += len(response.GetResults())
			responses++
		}
	}()
	b.ReportAllocs()
	sequence := int64(0)
	request := &controlv1.SendStreamRequest{}
	flush := func() {
		if err := stream.Send(request); err != nil {
			b.Fatal(err)
		}
		request = &controlv1.SendStreamRequest{}
	}
	for b.Loop() {
		sequence++
		request.Sends = append(
			request.Sends, &controlv1.StreamedSend{Sequence: sequence, Send: send},
		)
		if len(request.Sends) == size {
			flush()
		}
	}
	if len(request.Sends) > 0 {
		flush()
	}
	if err := stream.CloseSend(); err != nil {
		b.Fatal(err)
	}
	if err := <-read; !errors.Is(err, io.EOF) || results != int(sequence) {
		b.Errorf("%v, %d results of %d", err, results, sequence)
	}
	b.ReportMetric(float64(results)/float64(responses), "results/response")
}
