package control

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// gRPC's API does not promise the methods of its streams that receiveMessage uses.
func TestMessagesAreReadPieceByPiece(t *testing.T) {
	f := newFixture(t)
	compressed := grpc.UseCompressor(gzip.Name)
	answer, err := f.delivery.Send(
		t.Context(), to(users("ann"), strings.Repeat("x", 1<<20)), compressed,
	)
	if err != nil || answer.GetReceipt().GetMatched() != 0 {
		t.Errorf("%v, %v", answer, err)
	}
	stream, err := f.delivery.SendStream(t.Context(), compressed)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int64(3) {
		if err := stream.Send(batch(i+1, to(users("ann"), "x"))); err != nil {
			t.Fatal(err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	b := &backend{BidiStreamingClient: stream, results: map[int64]*controlv1.StreamedResult{}}
	if err := b.end(t); err != nil || len(b.results) != 3 {
		t.Errorf("%v, %d results", err, len(b.results))
	}
}

func TestALargeMessageIsRefusedHoweverSmallItCame(t *testing.T) {
	f := newFixture(t)
	big := to(users("ann"), strings.Repeat("x", form.MaxRequestBytes))
	for name, options := range map[string][]grpc.CallOption{
		"plain": nil, "compressed": {grpc.UseCompressor(gzip.Name)},
	} {
		if _, err := f.delivery.Send(
			t.Context(), big, options...,
		); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("%s: %v", name, err)
		}
	}
	health := healthv1.NewHealthClient(f.dial(t, ""))
	request := &healthv1.HealthCheckRequest{
		Service: strings.Repeat("x", port.OpenMethods[healthv1.Health_Check_FullMethodName].Bytes),
	}
	if _, err := health.Check(
		t.Context(), request, grpc.UseCompressor(gzip.Name),
	); status.Code(err) != codes.ResourceExhausted {
		t.Errorf("to an open method: %v", err)
	}
}

func TestACallOfOneMessageHasOne(t *testing.T) {
	f := newFixture(t)
	for name, messages := range map[string]int{"none": 0, "two": 2} {
		c := f.rawCaller(t)
		stream, err := c.begin(
			controlv1.HubService_ListHubs_FullMethodName, "Bearer "+backendSecret,
		)
		if err != nil {
			t.Fatal(err)
		}
		for range messages {
			if err := c.announce(stream, 0, 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.framer.WriteData(stream, true, nil); err != nil {
			t.Fatal(err)
		}
		if code := c.status(t, stream); code != "13" {
			t.Errorf("%s: %s, want INTERNAL", name, code)
		}
	}
}

// idleStreams opens a stream of each kind, and waits for nothing from it.
func idleStreams(t *testing.T, conn *grpc.ClientConn) map[string]grpc.ClientStream {
	t.Helper()
	streams := make(map[string]grpc.ClientStream)
	for _, method := range []string{
		reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName,
		reflectionv1alpha.ServerReflection_ServerReflectionInfo_FullMethodName,
		healthv1.Health_Watch_FullMethodName,
		controlv1.DeliveryService_SendStream_FullMethodName,
	} {
		stream, err := conn.NewStream(
			t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method,
		)
		if err != nil {
			t.Fatal(err)
		}
		streams[method] = stream
	}
	return streams
}

// A stream that waits does not hold up a hub that leaves: for the next message, the first message,
// or the rest of a message.
func TestNoStreamHoldsUpLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		streams := idleStreams(t, f.conn)
		used, err := reflectionv1.NewServerReflectionClient(f.conn).ServerReflectionInfo(
			t.Context(),
		)
		if err != nil {
			t.Fatal(err)
		}
		list := &reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{},
		}
		if err := used.Send(list); err != nil {
			t.Fatal(err)
		}
		if _, err := used.Recv(); err != nil {
			t.Fatal(err)
		}
		watch, err := healthv1.NewHealthClient(f.conn).Watch(
			t.Context(), &healthv1.HealthCheckRequest{},
		)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := watch.Recv(); err != nil {
			t.Fatal(err)
		}
		streams["a reflection that was used"], streams["a watch that was answered"] = used, watch
		unary := f.rawCaller(t)
		begun, err := unary.begin(
			controlv1.DeliveryService_Send_FullMethodName, "Bearer "+backendSecret,
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := unary.announce(begun, 1000, 999); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		f.server.Leave()
		<-f.server.Quiet()
		if took := time.Since(start); took > 0 {
			t.Errorf("quiet after %v", took)
		}
		for name, stream := range streams {
			var err error
			for err == nil {
				err = stream.RecvMsg(&controlv1.SendStreamResponse{})
			}
			if status.Code(err) != codes.Unavailable {
				t.Errorf("%s: %v, want SHUTTING_DOWN", name, err)
			}
		}
		if code := unary.status(t, begun); code != "14" {
			t.Errorf("a request that has not come: %s, want UNAVAILABLE", code)
		}
		_ = unary.Close() // it answers no pings
		if err := f.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("down after %v", took)
		}
	})
}
