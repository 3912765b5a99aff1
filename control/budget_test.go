package control

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/control/failure/failuretest"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// small makes the budget as small as may be.
func small(c *Config) { c.CallBytes = MinCallBytes }

// holdExhausted fails unless an error says that the caller holds too much, and when to try again.
func holdExhausted(t *testing.T, err error) {
	t.Helper()
	failuretest.HoldError(t, err, codes.ResourceExhausted, "TOO_MANY_CALLS")
	for _, detail := range status.Convert(err).Details() {
		if retry, ok := detail.(*errdetails.RetryInfo); ok &&
			retry.GetRetryDelay().AsDuration() > 0 {
			return
		}
	}
	t.Errorf("no RetryInfo in %v", err)
}

func TestManyStreamsOfOneBackendCostTheOthersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, small)
		greedy := controlv1.NewDeliveryServiceClient(f.dial(t, "Bearer "+backendSecret))
		sends := make([]*controlv1.SendRequest, 300)
		for i := range sends {
			sends[i] = waiting(to(users("nobody"), "x"), controlv1.Wait_WAIT_ACKED, 5*time.Minute)
		}
		refused := func() int { return f.metric(t, "connhub_grpc_calls_refused_total") }
		last, opened := controlv1.DeliveryService_SendStreamClient(nil), 0
		for ; refused() == 0; opened++ {
			var err error
			if last, err = greedy.SendStream(t.Context()); err != nil {
				t.Fatal(err)
			}
			_ = last.Send(batch(1, sends...)) // its results are not read
			synctest.Wait()
			if opened > MinCallBytes/3/port.StreamWindow {
				t.Fatalf("%d streams are open", opened)
			}
		}
		_, err := last.Recv()
		holdExhausted(t, err)
		if held := f.metric(t, "connhub_grpc_call_bytes"); held > MinCallBytes/3 ||
			held < MinCallBytes/4 {
			t.Errorf("%d bytes are held", held)
		}
		start := time.Now()
		f.send(t, &controlv1.SendRequest{
			Target: users("ann"), Message: text(strings.Repeat("x", hub.MaxPayload)),
		})
		if took := time.Since(start); took > 0 {
			t.Errorf("another backend's send took %v", took)
		}
	})
}

func TestBegunRequestsAreBoundedBeforeTheyCome(t *testing.T) {
	f := newFixture(t, small)
	c := f.rawCaller(t)
	const begun, room = 100, MinCallBytes / 3 / form.MaxRequestBytes
	for range begun {
		stream, err := c.begin(
			controlv1.DeliveryService_Send_FullMethodName, "Bearer "+backendSecret,
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.announce(stream, form.MaxRequestBytes-1, 1<<10); err != nil {
			t.Fatal(err)
		}
	}
	for refused := 0; refused < begun-room; {
		switch frame := <-c.frames; {
		case frame.err != nil:
			t.Fatalf("%d of %d were refused, then: %v", refused, begun, frame.err)
		case frame.status == "8":
			refused++
		case frame.status != "":
			t.Fatalf("status %s, want RESOURCE_EXHAUSTED", frame.status)
		}
	}
	if held := f.metric(t, "connhub_grpc_call_bytes"); held > MinCallBytes/3 ||
		held < form.MaxRequestBytes {
		t.Errorf("%d bytes are held", held)
	}
	f.send(t, &controlv1.SendRequest{
		Target: users("ann"), Message: text(strings.Repeat("x", hub.MaxPayload)),
	})
}

func TestAStreamWaitsAMomentForRoomForItsNextMessage(t *testing.T) {
	for name, freed := range map[string]bool{"that comes": true, "that does not come": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t, small)
				b := f.stream(t.Context(), t)
				b.send(t, batch(1, to(users("ann"), "x")))
				b.until(t, func() bool { return b.results[1] != nil })
				// The same backend has begun requests on the same connection.
				var streams []interface{ CloseSend() error }
				for {
					stream, err := f.delivery.SendStream(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
					if f.metric(t, "connhub_grpc_calls_refused_total") > 0 {
						break
					}
					streams = append(streams, stream)
				}
				start := time.Now()
				b.send(t, batch(2, to(users("ann"), strings.Repeat("x", 1<<20))))
				time.Sleep(port.RoomPatience / 2)
				if !freed {
					holdExhausted(t, b.end(t))
					if took := time.Since(start); took != port.RoomPatience {
						t.Errorf("refused after %v", took)
					}
					return
				}
				for _, stream := range streams {
					if err := stream.CloseSend(); err != nil {
						t.Fatal(err)
					}
				}
				b.until(t, func() bool { return b.results[2] != nil })
				if took := time.Since(start); b.receipt(t, 2) == nil ||
					took > port.RoomPatience/2+10*time.Millisecond {
					t.Errorf("it went on after %v", took)
				}
			})
		})
	}
}

// A stream that may hold no more has its sends fail, each by itself, and goes on.
func TestSendsBeyondWhatACallerMayHoldFailOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, small)
		f.connect(t, &wireProtocol{}, "slow").stall(true)
		b := f.stream(t.Context(), t)
		// Each holds a megabyte until it is written, which it never is.
		large := waiting(
			to(users("slow"), strings.Repeat("x", 1<<20)), controlv1.Wait_WAIT_WRITTEN, time.Minute,
		)
		large.RequestId = "one message, many waits"
		n := int64(20)
		for i := range n {
			b.send(t, batch(i+1, large))
		}
		var failed []int64
		b.until(t, func() bool { return b.accepted == n })
		synctest.Wait()
		for sequence, result := range b.results {
			if result.GetError() != nil {
				holdExhausted(t, status.ErrorProto(result.GetError()))
				failed = append(failed, sequence)
			}
		}
		if len(failed) == 0 || len(failed) > int(n)-5 {
			t.Errorf("%d of %d failed", len(failed), n)
		}
		b.closeSend(t)
		if err := b.end(t); err != nil || len(b.results) != int(n) {
			t.Errorf("%v, %d results", err, len(b.results))
		}
	})
}

func TestAnAnswerThatIsNotReadIsHeldByItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		for i := range 100 {
			f.attach(t, &wireProtocol{}, fmt.Sprintf("%d%s", i, strings.Repeat("u", 1000)))
		}
		c := f.rawCaller(t)
		if err := c.framer.WriteSettings(
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0},
		); err != nil {
			t.Fatal(err)
		}
		stream, err := c.begin(
			controlv1.ConnectionService_ListConnections_FullMethodName, "Bearer "+backendSecret,
		)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.announce(stream, 0, 0); err != nil {
			t.Fatal(err)
		}
		if err := c.framer.WriteData(stream, true, nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if held := f.metric(t, "connhub_grpc_call_bytes"); held < 100_000 {
			t.Errorf("%d bytes are held", held)
		}
		if err := c.framer.WriteRSTStream(stream, http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if held := f.metric(t, "connhub_grpc_call_bytes"); held != 0 {
			t.Errorf("%d bytes are held of a call that is over", held)
		}
	})
}
