package control

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/control/failure/failuretest"
	"github.com/connhub/connhub/control/form"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

func TestAStreamKeepsItsOrderWhateverTheTargets(t *testing.T) {
	f := newFixture(t)
	p := &wireProtocol{}
	ann, bob := f.connect(t, p, "ann", "red"), f.connect(t, p, "bob", "red")
	toAnn := []*controlv1.Target{
		users("ann"),
		{Groups: []string{"red"}, Except: &controlv1.Exclusion{Users: []string{"bob"}}},
		{Connections: []string{string(ann.ID())}},
		{Groups: []string{"red"}},
		everyone(),
		users("ann", "bob"),
	}
	b := f.stream(t.Context(), t)
	var wantAnn, wantBob strings.Builder
	const batches, size = 20, 50
	go func() {
		for i := range batches {
			var sends []*controlv1.SendRequest
			for j := range size {
				n := i*size + j
				send := to(toAnn[n%len(toAnn)], fmt.Sprint(n))
				// Some are waited for; that holds up none.
				send.Wait = controlv1.Wait(n % 4)
				sends = append(sends, send)
			}
			_ = b.Send(batch(int64(i*size+1), sends...))
		}
		_ = b.CloseSend()
	}()
	for n := range batches * size {
		fmt.Fprintf(&wantAnn, "%d|", n)
		if n%len(toAnn) > 2 {
			fmt.Fprintf(&wantBob, "%d|", n)
		}
	}
	if err := b.end(t); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(wantAnn.String(), ann.received()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(wantBob.String(), bob.received()); diff != "" {
		t.Error(diff)
	}
	if len(b.results) != batches*size || b.accepted != batches*size {
		t.Errorf("%d results, accepted %d", len(b.results), b.accepted)
	}
}

func TestResultsComeWhenTheyAreReadyAndHoldUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		slow, ann := f.connect(t, &wireProtocol{}, "slow"), f.connect(t, &wireProtocol{}, "ann")
		slow.stall(true)
		b := f.stream(t.Context(), t)
		b.send(t, batch(10,
			waiting(to(users("slow"), "a"), controlv1.Wait_WAIT_WRITTEN, 3*time.Second),
			waiting(to(users("slow"), "b"), controlv1.Wait_WAIT_WRITTEN, time.Second),
			to(users("ann"), "c"),
		))
		start := time.Now()
		b.until(t, func() bool { return len(b.results) == 1 })
		if took := time.Since(start); took > maxHold || b.accepted != 12 {
			t.Errorf("the first result after %v, accepted %d", took, b.accepted)
		}
		b.send(t, batch(20, to(users("ann"), "d")))
		b.until(t, func() bool { return len(b.results) == 2 })
		if ann.received() != "c|d|" {
			t.Errorf("ann has %q", ann.received())
		}
		b.until(t, func() bool { return len(b.results) == 3 })
		holdReceipt(t, &controlv1.Receipt{Matched: 1, Queued: 1}, b.receipt(t, 11))
		slow.stall(false)
		b.until(t, func() bool { return len(b.results) == 4 })
		holdReceipt(t, &controlv1.Receipt{Matched: 1, Written: 1, NotAckable: 1}, b.receipt(t, 10))
		if took := time.Since(start); took.Round(10*time.Millisecond) != time.Second {
			t.Errorf("the last result after %v", took)
		}
		if diff := cmp.Diff([]int64{12, 20, 11, 10}, b.order); diff != "" {
			t.Error(diff)
		}
		b.closeSend(t)
		if err := b.end(t); err != nil {
			t.Error(err)
		}
	})
}

// Everything that Send refuses, and the status that it refuses it with.
func TestABadSendHasTheErrorOfSendAndEndsNothing(t *testing.T) {
	f := newFixture(t)
	ann := f.connect(t, &wireProtocol{}, "ann")
	f.send(
		t, &controlv1.SendRequest{Target: users("ann"), Message: text("first"), RequestId: "used"},
	)
	bad := []func(*controlv1.SendRequest){
		func(r *controlv1.SendRequest) { r.Target = nil },
		func(r *controlv1.SendRequest) { r.Target = &controlv1.Target{} },
		func(r *controlv1.SendRequest) { r.Target = users("ann", "") },
		func(r *controlv1.SendRequest) { r.Target = users("bob", "a\x00") },
		func(r *controlv1.SendRequest) { r.Target = users(many(form.MaxTargetNames+1, 5)...) },
		func(r *controlv1.SendRequest) { r.Message = nil },
		func(r *controlv1.SendRequest) { r.Message.Payload = nil },
		func(r *controlv1.SendRequest) { r.Message.Payload = &controlv1.Message_Json{Json: "{"} },
		func(r *controlv1.SendRequest) { r.Message = text(long(hub.MaxPayload + 1)) },
		func(r *controlv1.SendRequest) { r.Message.Id = "\n" },
		func(r *controlv1.SendRequest) { r.Message.Event = long(1025) },
		func(r *controlv1.SendRequest) { r.Message.Metadata = map[string]string{"": "v"} },
		func(r *controlv1.SendRequest) {
			r.Message.Metadata = map[string]string{"k": long(form.MaxMetadataBytes)}
		},
		func(r *controlv1.SendRequest) { r.Message.Ttl = durationpb.New(-1) },
		func(r *controlv1.SendRequest) { r.Namespace = "Bad" },
		func(r *controlv1.SendRequest) { r.Wait = 99 },
		func(r *controlv1.SendRequest) { r.WaitTimeout = durationpb.New(time.Hour) },
		func(r *controlv1.SendRequest) { r.OverflowPolicy = -1 },
		func(r *controlv1.SendRequest) { r.Detail = 7 },
		func(r *controlv1.SendRequest) { r.ConflationKey = "k" },
		func(r *controlv1.SendRequest) {
			r.OverflowPolicy = controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE
		},
		func(r *controlv1.SendRequest) { r.RequestId = long(1025) },
		func(r *controlv1.SendRequest) { r.RequestId = "used" },
	}
	b := f.stream(t.Context(), t)
	want := map[int64]error{}
	for i, change := range bad {
		req := to(users("ann"), "bad")
		change(req)
		sequence := int64(10*i + 2)
		_, want[sequence] = f.delivery.Send(t.Context(), req)
		b.send(t, batch(sequence-1, to(users("ann"), "x"), req, to(users("ann"), "y")))
	}
	// no send at all
	b.send(t, &controlv1.SendStreamRequest{Sends: []*controlv1.StreamedSend{{Sequence: 1000}}})
	_, want[1000] = f.delivery.Send(t.Context(), &controlv1.SendRequest{})
	b.closeSend(t)
	if err := b.end(t); err != nil {
		t.Fatal(err)
	}
	for sequence, err := range want {
		if err == nil {
			t.Errorf("%d is good", sequence)
		}
		have := b.results[sequence].GetError()
		if diff := cmp.Diff(status.Convert(err).Proto(), have, protocmp.Transform()); diff != "" {
			t.Errorf("%d: %s", sequence, diff)
		}
	}
	if n := 3*len(bad) + 1; len(b.results) != n {
		t.Errorf("%d results, want %d", len(b.results), n)
	}
	if have, want := ann.received(), "first|"+strings.Repeat("x|y|", len(bad)); have != want {
		t.Errorf("received %q, want %q", have, want)
	}
	if log := f.log.String(); log != "" {
		t.Errorf("a backend's fault was logged: %s", log)
	}
}

func TestARequestIDDeliversOnceThroughStreamsAndSends(t *testing.T) {
	f := newFixture(t)
	ann := f.connect(t, &wireProtocol{}, "ann")
	identified := func(words string) *controlv1.SendRequest {
		req := to(users("ann"), words)
		req.RequestId = "r1"
		return req
	}
	b := f.stream(t.Context(), t)
	b.send(t, batch(1, identified("x"), identified("x"), identified("another")))
	b.until(t, func() bool { return len(b.results) == 3 })
	holdReceipt(t, &controlv1.Receipt{Matched: 1, Written: 1, NotAckable: 1}, b.receipt(t, 1))
	holdReceipt(t, &controlv1.Receipt{
		Matched: 1, Written: 1, NotAckable: 1, Duplicate: true,
	}, b.receipt(t, 2))
	failuretest.HoldError(
		t, status.ErrorProto(b.results[3].GetError()), codes.AlreadyExists, "REQUEST_ID_REUSED",
	)
	holdReceipt(t, &controlv1.Receipt{
		Matched: 1, Written: 1, NotAckable: 1, Duplicate: true,
	}, f.send(t, identified("x")))
	again := f.stream(t.Context(), t)
	again.send(t, batch(1, identified("x")))
	again.until(t, func() bool { return len(again.results) == 1 })
	if !again.receipt(t, 1).GetDuplicate() || ann.received() != "x|" {
		t.Errorf("%v, received %q", again.results[1], ann.received())
	}
}

func TestABackendIsHeldAtTheBoundOfSendsWithoutResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		p := &wireProtocol{}
		const n = maxUnanswered + 500
		clients := make([]*client, n)
		b := f.stream(t.Context(), t)
		var sends []*controlv1.SendRequest
		for i := range n {
			user := fmt.Sprint(i)
			clients[i] = f.connect(t, p, user)
			clients[i].stall(true)
			sends = append(
				sends, waiting(to(users(user), "x"), controlv1.Wait_WAIT_WRITTEN, time.Minute),
			)
		}
		b.send(t, batch(1, sends[:form.MaxStreamedSends-1]...))
		b.send(t, batch(form.MaxStreamedSends, sends[form.MaxStreamedSends-1:]...))
		synctest.Wait()
		if taken := f.metric(t, "connhub_grpc_stream_sends_total"); taken != maxUnanswered {
			t.Errorf("%d were taken, want %d", taken, maxUnanswered)
		}
		// Each result makes room for a send.
		for _, i := range []int{7, 500} {
			clients[i].stall(false)
		}
		b.until(t, func() bool { return len(b.results) == 2 })
		synctest.Wait()
		if taken := f.metric(t, "connhub_grpc_stream_sends_total"); taken != maxUnanswered+2 {
			t.Errorf("%d were taken, want %d", taken, maxUnanswered+2)
		}
		for _, c := range clients {
			c.stall(false)
		}
		b.closeSend(t)
		if err := b.end(t); err != nil || len(b.results) != n {
			t.Errorf("%v with %d results", err, len(b.results))
		}
	})
}

func TestABackendThatDoesNotReadStopsItselfAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.connect(t, &wireProtocol{}, "ann")
		deaf, other := f.stream(t.Context(), t), f.stream(t.Context(), t)
		const batches, size = 30, 250
		var sent sync.WaitGroup
		written := make(chan int, batches)
		sent.Go(func() {
			defer close(written)
			for i := range batches {
				send := to(users("ann"), long(100))
				send.Message.Id = long(1000) // comes back
				if deaf.Send(batch(int64(i*size+
					1), slices.Repeat([]*controlv1.SendRequest{send}, size)...)) != nil {
					return
				}
				written <- i
			}
			_ = deaf.CloseSend()
		})
		synctest.Wait()
		if len(written) == batches {
			t.Fatal("nothing held the backend up: the test writes too little")
		}
		taken, given := f.metric(t, "connhub_grpc_stream_sends_total"), f.metric(
			t, "connhub_grpc_stream_results_total",
		)
		if taken-given > maxUnanswered || taken >= batches*size {
			t.Errorf("%d taken, %d results given", taken, given)
		}
		other.send(t, batch(1, to(users("ann"), "x")))
		other.until(t, func() bool { return len(other.results) == 1 })
		f.send(t, to(users("ann"), "x"))

		if err := deaf.end(t); err != nil || len(deaf.results) != batches*size {
			t.Errorf("%v with %d results", err, len(deaf.results))
		}
		sent.Wait()
	})
}

func TestResponsesStayBelowWhatClientsTake(t *testing.T) {
	f := newFixture(t)
	b := f.stream(t.Context(), t)
	const n = 6
	go func() {
		for i := range n {
			send := to(users(many(1000, 1024)...), "x")
			send.Detail = controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS
			_ = b.Send(batch(int64(i+1), send))
		}
		_ = b.CloseSend()
	}()
	if err := b.end(t); err != nil || len(b.results) != n {
		t.Fatalf("%v with %d results", err, len(b.results))
	}
	if names := len(b.receipt(t, n).GetUnmatched().GetUsers()); names != 1000 {
		t.Errorf("%d names", names)
	}
}

// loudProtocol can't encode a message that is loud.
type loudProtocol struct{ wireProtocol }

func (p *loudProtocol) Encode(m *hub.Message, r hub.Route) []byte {
	if strings.ToUpper(string(m.Payload)) == string(m.Payload) {
		panic("secret detail of the inside")
	}
	return p.wireProtocol.Encode(m, r)
}

func TestAPanicIsTheErrorOfItsSend(t *testing.T) {
	f := newFixture(t)
	ann := f.connect(t, &loudProtocol{}, "ann")
	b := f.stream(t.Context(), t)
	b.send(t, batch(1, to(users("ann"), "x"), to(users("ann"), "X"), to(users("ann"), "y")))
	b.closeSend(t)
	if err := b.end(t); err != nil || len(b.results) != 3 {
		t.Fatalf("%v with %d results", err, len(b.results))
	}
	failuretest.HoldError(t, status.ErrorProto(b.results[2].GetError()), codes.Internal, "INTERNAL")
	if strings.Contains(b.results[2].String(), "secret") {
		t.Errorf("leaked: %v", b.results[2])
	}
	if ann.received() != "x|y|" {
		t.Errorf("received %q", ann.received())
	}
	if log := f.log.String(); strings.Count(log, "\n") != 1 ||
		!strings.Contains(log, "call panicked") || !strings.Contains(log, "stream_test.go") {
		t.Errorf("logged %q", log)
	}
}

func TestStreamsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		b := f.stream(t.Context(), t)
		b.send(t, batch(1, to(users("ann"), "x"), to(users("ann"), "y"), to(nil, "z")))
		b.until(t, func() bool { return len(b.results) == 3 })
		if n := f.metric(t, "connhub_grpc_streams"); n != 1 {
			t.Errorf("%d streams", n)
		}
		b.closeSend(t)
		if err := b.end(t); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for name, want := range map[string]int{
			"connhub_grpc_streams": 0, "connhub_grpc_stream_sends_total": 3,
			"connhub_grpc_stream_results_total": 3, "connhub_grpc_requests_total": 1,
		} {
			if n := f.metric(t, name); n != want {
				t.Errorf("%s is %d, want %d", name, n, want)
			}
		}
	})
}

// Each send of a stream has a result, the same as Send would have returned.
func TestEachSendOfAStreamHasTheResultThatSendWouldGive(t *testing.T) {
	f := newFixture(t)
	f.connect(t, &wireProtocol{}, "plain", "g")
	f.connect(t, &wireProtocol{}, "twice", "g")
	f.connect(t, &wireProtocol{}, "twice", "g", "h")
	targets := []*controlv1.Target{
		users("plain"),
		users("twice", "nobody"),
		{Groups: []string{"g"}},
		{Groups: []string{"h"}, Users: []string{"plain"}},
		{Everyone: true, Except: &controlv1.Exclusion{Groups: []string{"h"}}},
		users("nobody"),
		{},
		users(""),
		users(long(1025)),
	}
	rapid.Check(t, func(t *rapid.T) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		draw := rapid.Custom(func(t *rapid.T) *controlv1.SendRequest {
			req := waiting(to(
				rapid.SampledFrom(targets).Draw(t, "target"), rapid.String().Draw(t, "text"),
			),
				controlv1.Wait(rapid.IntRange(0, 5).Draw(t, "wait")), // 5 is none
				time.Duration(rapid.IntRange(0, 5).Draw(t, "timeout"))*time.Millisecond)
			req.ConflationKey = rapid.SampledFrom([]string{"", "", "", "k"}).Draw(t, "key")
			req.Detail = controlv1.ReceiptDetail(rapid.IntRange(0, 1).Draw(t, "detail"))
			return req
		})
		b := f.stream(ctx, t)
		sent := map[int64]*controlv1.SendRequest{}
		var requests []*controlv1.SendStreamRequest
		last := int64(0)
		for range rapid.IntRange(0, 4).Draw(t, "requests") {
			req := &controlv1.SendStreamRequest{}
			for _, send := range rapid.SliceOfN(draw, 1, 8).Draw(t, "sends") {
				last += rapid.Int64Range(1, 3).Draw(t, "gap")
				sent[last] = send
				req.Sends = append(req.Sends, &controlv1.StreamedSend{Sequence: last, Send: send})
			}
			requests = append(requests, req)
		}
		go func() {
			for _, req := range requests {
				_ = b.Send(req)
			}
			_ = b.CloseSend()
		}()
		if err := b.end(t); err != nil || b.accepted != last || len(b.results) != len(sent) {
			t.Fatalf("%v, accepted %d of %d, %d results of %d",
				err, b.accepted, last, len(b.results), len(sent))
		}
		for sequence, req := range sent {
			response, err := f.delivery.Send(ctx, req)
			want := &controlv1.StreamedResult{
				Sequence: sequence,
				Outcome:  &controlv1.StreamedResult_Receipt{Receipt: response.GetReceipt()},
			}
			if err != nil {
				want.Outcome = &controlv1.StreamedResult_Error{Error: status.Convert(err).Proto()}
			}
			if diff := cmp.Diff(want, b.results[sequence], protocmp.Transform(),
				protocmp.IgnoreFields(&controlv1.Receipt{}, "message_id")); diff != "" {
				t.Fatalf("%v: %s", req, diff)
			}
		}
	})
}

func TestAResultIsNeverLargerThanItIsTakenFor(t *testing.T) {
	receipt := &controlv1.Receipt{
		MessageId: strings.Repeat("m", hub.MaxName), Duplicate: true,
		DiscoveryStaleFor: durationpb.New(math.MaxInt64),
	}
	counts := receipt.ProtoReflect()
	fields := counts.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.Kind() == protoreflect.Int32Kind {
			counts.Set(f, protoreflect.ValueOfInt32(math.MaxInt32))
		}
	}
	for reason := range controlv1.DropReason_name {
		receipt.Dropped = append(receipt.Dropped, &controlv1.Dropped{
			Reason: controlv1.DropReason(reason), Count: math.MaxInt32,
		})
	}
	named := proto.CloneOf(receipt)
	named.UnreachableHubs = slices.Repeat([]string{"abcdefgh"}, 1000)
	for _, r := range []*controlv1.StreamedResult{
		{Sequence: form.MaxSequence, Outcome: &controlv1.StreamedResult_Receipt{Receipt: receipt}},
		{Sequence: form.MaxSequence, Outcome: &controlv1.StreamedResult_Receipt{Receipt: named}},
		{Sequence: form.MaxSequence, Outcome: &controlv1.StreamedResult_Error{
			Error: &spb.Status{Message: strings.Repeat("e", 10_000)},
		}},
	} {
		if responseSize(r) < proto.Size(r) {
			t.Errorf("%d bytes, taken for %d", proto.Size(r), responseSize(r))
		}
	}
}
