package control

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// backend is a SendStream as a backend sees it. It checks the rules of every response.
type backend struct {
	grpc.BidiStreamingClient[controlv1.SendStreamRequest, controlv1.SendStreamResponse]

	results   map[int64]*controlv1.StreamedResult
	order     []int64 // in which the results came
	accepted  int64
	goingAway *controlv1.GoingAway
	responses int
}

func (f *fixture) stream(ctx context.Context, t rapid.TB) *backend {
	t.Helper()
	return streamOf(ctx, t, f.delivery)
}

// streamOf opens a stream over the connection of a client.
func streamOf(ctx context.Context, t rapid.TB, of controlv1.DeliveryServiceClient) *backend {
	t.Helper()
	stream, err := of.SendStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return &backend{BidiStreamingClient: stream, results: map[int64]*controlv1.StreamedResult{}}
}

// batch numbers sends from a sequence.
func batch(from int64, sends ...*controlv1.SendRequest) *controlv1.SendStreamRequest {
	req := &controlv1.SendStreamRequest{}
	for i, send := range sends {
		req.Sends = append(
			req.Sends, &controlv1.StreamedSend{Sequence: from + int64(i), Send: send},
		)
	}
	return req
}

func (b *backend) send(t rapid.TB, req *controlv1.SendStreamRequest) {
	t.Helper()
	if err := b.Send(req); err != nil {
		t.Fatal(err)
	}
}

func (b *backend) closeSend(t rapid.TB) {
	t.Helper()
	if err := b.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

// next reads a response.
func (b *backend) next(t rapid.TB) error {
	t.Helper()
	response, err := b.Recv()
	if err != nil {
		return err
	}
	b.responses++
	if response.GetAccepted() < b.accepted {
		t.Errorf("accepted falls from %d to %d", b.accepted, response.GetAccepted())
	}
	if b.goingAway != nil &&
		(response.GetGoingAway() != nil || response.GetAccepted() != b.accepted) {
		t.Errorf("after going_away: %v", response)
	}
	b.accepted = response.GetAccepted()
	if leaves := response.GetGoingAway(); leaves != nil {
		b.goingAway = leaves
		if leaves.GetLastAccepted() != b.accepted {
			t.Errorf("%v, and %d accepted", leaves, b.accepted)
		}
	}
	if len(response.GetResults()) > maxUnanswered {
		t.Errorf("%d results in a response", len(response.GetResults()))
	}
	for _, result := range response.GetResults() {
		if result.GetSequence() > b.accepted {
			t.Errorf("result of %d, accepted is %d", result.GetSequence(), b.accepted)
		}
		if b.results[result.GetSequence()] != nil {
			t.Errorf("two results of %d", result.GetSequence())
		}
		b.results[result.GetSequence()] = result
		b.order = append(b.order, result.GetSequence())
	}
	return nil
}

// until reads responses until enough is true.
func (b *backend) until(t rapid.TB, enough func() bool) {
	t.Helper()
	for !enough() {
		if err := b.next(t); err != nil {
			t.Fatalf("%v, with %d results, accepted %d", err, len(b.results), b.accepted)
		}
	}
}

// end reads to the end of the stream, and returns its error; nil: OK.
func (b *backend) end(t rapid.TB) error {
	t.Helper()
	for {
		if err := b.next(t); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// receipt returns that of a sequence.
func (b *backend) receipt(t rapid.TB, sequence int64) *controlv1.Receipt {
	t.Helper()
	result := b.results[sequence]
	if result.GetReceipt() == nil {
		t.Fatalf("result of %d: %v", sequence, result)
	}
	return result.GetReceipt()
}

func to(target *controlv1.Target, words string) *controlv1.SendRequest {
	return &controlv1.SendRequest{Target: target, Message: text(words)}
}

func waiting(
	req *controlv1.SendRequest, wait controlv1.Wait, timeout time.Duration,
) *controlv1.SendRequest {
	req.Wait, req.WaitTimeout = wait, durationpb.New(timeout)
	return req
}

// metric returns the sum of the series of a metric.
func (f *fixture) metric(t rapid.TB, name string) int {
	t.Helper()
	families, err := prometheus.Gatherers{f.metrics, f.meshMetrics}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() == name {
			for _, m := range family.GetMetric() {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return int(sum)
}
