package control

import (
	"context"
	"crypto/sha256"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

func (f *fixture) send(t testing.TB, req *controlv1.SendRequest) *controlv1.Receipt {
	t.Helper()
	resp, err := f.delivery.Send(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetReceipt()
}

func holdReceipt(t testing.TB, want, have *controlv1.Receipt) {
	t.Helper()
	if have.GetMessageId() == "" {
		t.Error("no message id")
	}
	sum := have.GetPending() +
		have.GetQueued() + have.GetQueuedDetached() + have.GetWritten() + have.GetAcked() +
		have.GetInTransfer()
	for _, d := range have.GetDropped() {
		sum += d.GetCount()
	}
	if sum != have.GetMatched() {
		t.Errorf("%v: states add up to %d", have, sum)
	}
	if diff := cmp.Diff(want, have, protocmp.Transform(), anyStaleness,
		protocmp.IgnoreFields(&controlv1.Receipt{}, "message_id")); diff != "" {
		t.Error(diff)
	}
}

func TestSendHandsEveryPartOfAMessageToTheHub(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		p := &wireProtocol{}
		c := f.connect(t, p, "ann", "red")
		const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", parent)
		for _, c := range []struct {
			message *controlv1.Message
			kind    hub.PayloadKind
			payload string
		}{
			{&controlv1.Message{
				Payload: &controlv1.Message_Text{Text: "héllo"},
			}, hub.Text, "héllo"},
			{&controlv1.Message{Payload: &controlv1.Message_Text{}}, hub.Text, ""},
			{&controlv1.Message{
				Payload: &controlv1.Message_Json{Json: ` {"b":1.00,"a":2} `},
			}, hub.JSON, ` {"b":1.00,"a":2} `},
			{&controlv1.Message{
				Payload: &controlv1.Message_Binary{Binary: []byte{0, 0xff}},
			}, hub.Binary, "\x00\xff"},
			{&controlv1.Message{
				Payload: &controlv1.Message_Protobuf{Protobuf: []byte{0, 0xff}},
			}, hub.Protobuf, "\x00\xff"},
		} {
			c.message.Id, c.message.Event, c.message.Metadata = "m1",
				"tick", map[string]string{"k": "v"}
			c.message.Ttl = durationpb.New(time.Minute)
			resp, err := f.delivery.Send(
				ctx, &controlv1.SendRequest{Target: users("ann"), Message: c.message},
			)
			if err != nil {
				t.Fatal(err)
			}
			holdReceipt(
				t, &controlv1.Receipt{Matched: 1, Written: 1, NotAckable: 1}, resp.GetReceipt(),
			)
			have, route := p.last(t)
			want := &hub.Message{
				ID: "m1", Namespace: hub.DefaultNamespace, Event: "tick", Kind: c.kind,
				Payload:  []byte(c.payload),
				Metadata: map[string]string{"k": "v"}, Expires: time.Now().Add(time.Minute),
				TraceParent: parent,
			}
			if diff := cmp.Diff(want, have, cmp.Transformer("bytes", func(b []byte) string {
				return string(b)
			})); diff != "" {
				t.Error(diff)
			}
			if resp.GetReceipt().GetMessageId() != "m1" || route.Kind != hub.RouteUser {
				t.Errorf("id %s, route %v", resp.GetReceipt().GetMessageId(), route)
			}
		}
		if have, want := c.received(),
			"héllo||"+` {"b":1.00,"a":2} `+"|\x00\xff|\x00\xff|"; have != want {
			t.Errorf("received %q, want %q", have, want)
		}
	})
}

func TestSendReachesEachKindOfTargetLessTheExcluded(t *testing.T) {
	f := newFixture(t)
	p := &wireProtocol{}
	ann, bob := f.connect(t, p, "ann", "red"), f.connect(t, p, "bob", "red", "blue")
	for _, c := range []struct {
		target      *controlv1.Target
		ann, others bool
	}{
		{&controlv1.Target{Connections: []string{string(ann.ID())}}, true, false},
		{users("ann", "ann"), true, false},
		{&controlv1.Target{Groups: []string{"blue", "red"}}, true, true},
		{everyone(), true, true},
		{&controlv1.Target{
			Everyone: true, Except: &controlv1.Exclusion{Connections: []string{string(ann.ID())}},
		}, false, true},
		{&controlv1.Target{
			Everyone: true, Except: &controlv1.Exclusion{Users: []string{"ann"}},
		}, false, true},
		{&controlv1.Target{
			Everyone: true, Except: &controlv1.Exclusion{Groups: []string{"red"}},
		}, false, false},
	} {
		before := [2]int{len(ann.received()), len(bob.received())}
		f.send(t, &controlv1.SendRequest{Target: c.target, Message: text("x")})
		if toAnn, toBob := len(ann.received()) > before[0],
			len(bob.received()) > before[1]; toAnn != c.ann || toBob != c.others {
			t.Errorf("%v: to ann %v, to bob %v", c.target, toAnn, toBob)
		}
	}
}

func TestSendKeepsNamespacesApart(t *testing.T) {
	f := newFixture(t)
	f.connect(t, &wireProtocol{}, "ann")
	holdReceipt(t, &controlv1.Receipt{}, f.send(
		t, &controlv1.SendRequest{Namespace: "other", Target: everyone(), Message: text("x")},
	))
	holdReceipt(t, &controlv1.Receipt{Matched: 1, Written: 1, NotAckable: 1},
		f.send(
			t, &controlv1.SendRequest{Namespace: "default", Target: everyone(), Message: text("x")},
		))
}

func TestReceiptTellsEveryState(t *testing.T) {
	f := newFixture(t)
	p, acked := &wireProtocol{}, &ackedProtocol{}
	to := func(user string) *controlv1.SendRequest {
		return &controlv1.SendRequest{Target: users(user), Message: text("x")}
	}
	drop := func(r controlv1.DropReason) []*controlv1.Dropped {
		return []*controlv1.Dropped{{Reason: r, Count: 1}}
	}

	t.Run("nobody", func(t *testing.T) {
		holdReceipt(t, &controlv1.Receipt{}, f.send(t, to("nobody")))
	})
	t.Run("queued before the link", func(t *testing.T) {
		f.attach(t, p, "early")
		holdReceipt(t, &controlv1.Receipt{Matched: 1, Queued: 1}, f.send(t, to("early")))
	})
	t.Run("queued at a detached one", func(t *testing.T) {
		c := f.connect(t, acked, "away")
		c.Unbind(c, cause.Lost.CloseStatus())
		holdReceipt(t, &controlv1.Receipt{Matched: 1, QueuedDetached: 1}, f.send(t, to("away")))
	})
	t.Run("acked", func(t *testing.T) {
		c := f.connect(t, acked, "eager")
		req := to("eager")
		req.RequestId = "acked"
		holdReceipt(t, &controlv1.Receipt{Matched: 1, Written: 1}, f.send(t, req))
		if err := c.Ack(1); err != nil {
			t.Fatal(err)
		}
		holdReceipt(t, &controlv1.Receipt{Matched: 1, Acked: 1, Duplicate: true}, f.send(t, req))
	})
	t.Run("dropped", func(t *testing.T) {
		fill := func(user string) *client {
			c := f.connect(t, p, user)
			c.stall(true)
			for range 3 { // the bound of the fixture's outboxes
				f.send(t, to(user))
			}
			return c
		}
		fill("newest")
		req := to("newest")
		req.OverflowPolicy = controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_NEWEST
		holdReceipt(t, &controlv1.Receipt{
			Matched: 1, Dropped: drop(controlv1.DropReason_DROP_REASON_OVERFLOW_NEWEST),
		}, f.send(t, req))

		fill("slow")
		req = to("slow")
		req.OverflowPolicy = controlv1.OverflowPolicy_OVERFLOW_POLICY_CLOSE
		holdReceipt(t, &controlv1.Receipt{
			Matched: 1, Dropped: drop(controlv1.DropReason_DROP_REASON_OVERFLOW_CLOSE),
		}, f.send(t, req))

		// The later fate of a message shows when its request comes again.
		again := func(user string, change func(*controlv1.SendRequest)) *controlv1.SendRequest {
			c := f.connect(t, p, user)
			c.stall(true)
			req := to(user)
			req.RequestId = user
			change(req)
			holdReceipt(t, &controlv1.Receipt{Matched: 1, Queued: 1}, f.send(t, req))
			return req
		}
		req = again("oldest", func(*controlv1.SendRequest) {})
		for range 3 {
			next := to("oldest")
			next.OverflowPolicy = controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_OLDEST
			f.send(t, next)
		}
		holdReceipt(t, &controlv1.Receipt{Matched: 1, Duplicate: true, Dropped: drop(
			controlv1.DropReason_DROP_REASON_OVERFLOW_OLDEST,
		)}, f.send(t, req))

		conflate := func(r *controlv1.SendRequest) {
			r.OverflowPolicy, r.ConflationKey = controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE,
				"price"
		}
		req = again("conflated", conflate)
		next := to("conflated")
		conflate(next)
		f.send(t, next)
		holdReceipt(t, &controlv1.Receipt{
			Matched: 1, Duplicate: true, Dropped: drop(controlv1.DropReason_DROP_REASON_CONFLATED),
		}, f.send(t, req))

		req = again("closed", func(*controlv1.SendRequest) {})
		if _, err := f.connections.CloseConnections(
			t.Context(), &controlv1.CloseConnectionsRequest{Target: users("closed")},
		); err != nil {
			t.Fatal(err)
		}
		holdReceipt(t, &controlv1.Receipt{
			Matched: 1, Duplicate: true, Dropped: drop(controlv1.DropReason_DROP_REASON_CLOSED),
		}, f.send(t, req))
	})
}

func TestExpiredMessagesAreDroppedAndSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := f.connect(t, &wireProtocol{}, "ann")
		c.stall(true)
		req := &controlv1.SendRequest{Target: users("ann"), Message: text("x"), RequestId: "r"}
		req.Message.Ttl = durationpb.New(time.Second)
		holdReceipt(t, &controlv1.Receipt{Matched: 1, Queued: 1}, f.send(t, req))
		time.Sleep(2 * time.Second)
		c.stall(false)
		want := []*controlv1.Dropped{{Reason: controlv1.DropReason_DROP_REASON_EXPIRED, Count: 1}}
		holdReceipt(
			t, &controlv1.Receipt{Matched: 1, Duplicate: true, Dropped: want}, f.send(t, req),
		)
		if c.received() != "" {
			t.Errorf("received %q", c.received())
		}
	})
}

func TestDetailNamesWhoMatchedNobody(t *testing.T) {
	f := newFixture(t)
	f.connect(t, &wireProtocol{}, "ann", "red")
	req := &controlv1.SendRequest{
		Target: &controlv1.Target{
			Connections: []string{"c"},
			Users:       []string{"ann", "bob"}, Groups: []string{"blue", "red"},
		},
		Message: text("x"),
		Detail:  controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS,
	}
	holdReceipt(t, &controlv1.Receipt{
		Matched: 1, Written: 1, NotAckable: 1,
		Unmatched: &controlv1.Unmatched{
			Connections: []string{"c"}, Users: []string{"bob"}, Groups: []string{"blue"},
		},
	}, f.send(t, req))
}

func TestSendWaitsAsLongAsItMay(t *testing.T) {
	for _, c := range []struct {
		name     string
		wait     controlv1.Wait
		timeout  time.Duration // below 0: unset
		deadline time.Duration // 0: none
		want     time.Duration
	}{
		{"none", controlv1.Wait_WAIT_NONE, -1, 0, 0},
		{"queued", controlv1.Wait_WAIT_QUEUED, -1, 0, 0},
		{"unspecified is queued", controlv1.Wait_WAIT_UNSPECIFIED, -1, 0, 0},
		{"written, by default", controlv1.Wait_WAIT_WRITTEN, -1, 0, 5 * time.Second},
		{"acked, by default", controlv1.Wait_WAIT_ACKED, -1, 0, 5 * time.Second},
		{
			"a tenth short of the deadline", controlv1.Wait_WAIT_WRITTEN,
			-1, 4 * time.Second, 3600 * time.Millisecond,
		},
		{
			"a far deadline changes nothing", controlv1.Wait_WAIT_WRITTEN,
			-1, time.Hour, 5 * time.Second,
		},
		{"as asked", controlv1.Wait_WAIT_WRITTEN, 7 * time.Second, 0, 7 * time.Second},
		{"not at all", controlv1.Wait_WAIT_WRITTEN, 0, 0, 0},
		{
			"as asked, but for the deadline", controlv1.Wait_WAIT_WRITTEN,
			7 * time.Second, 5 * time.Second, 4500 * time.Millisecond,
		},
		{"the longest", controlv1.Wait_WAIT_ACKED, 5 * time.Minute, 0, 5 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFixture(t)
				f.connect(t, &ackedProtocol{}, "ann").stall(true)
				req := &controlv1.SendRequest{
					Target: users("ann"), Message: text("x"), Wait: c.wait,
				}
				if c.timeout >= 0 {
					req.WaitTimeout = durationpb.New(c.timeout)
				}
				ctx := context.Background()
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				start := time.Now()
				resp, err := f.delivery.Send(ctx, req)
				if err != nil {
					t.Fatal(err)
				}
				// The deadline travels as a number of milliseconds or so.
				if took := time.Since(start); took.Round(100*time.Millisecond) != c.want {
					t.Errorf("took %v, want %v", took, c.want)
				}
				holdReceipt(t, &controlv1.Receipt{Matched: 1, Queued: 1}, resp.GetReceipt())
			})
		})
	}
}

func TestSendAnswersAsSoonAsItsWaitIsReached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := f.connect(t, &ackedProtocol{}, "ann")
		c.stall(true)
		for _, step := range []struct {
			wait controlv1.Wait
			do   func()
			want *controlv1.Receipt
		}{
			{controlv1.Wait_WAIT_WRITTEN, func() {
				c.stall(false)
			}, &controlv1.Receipt{Matched: 1, Written: 1}},
			{controlv1.Wait_WAIT_ACKED, func() {
				if err := c.Ack(2); err != nil {
					t.Error(err)
				}
			}, &controlv1.Receipt{Matched: 1, Acked: 1}},
		} {
			start := time.Now()
			time.AfterFunc(2*time.Second, step.do)
			holdReceipt(t, step.want, f.send(t, &controlv1.SendRequest{
				Target: users("ann"), Message: text("x"), Wait: step.wait,
			}))
			if took := time.Since(start); took != 2*time.Second {
				t.Errorf("%v: took %v", step.wait, took)
			}
		}
	})
}

func TestRequestIDDeliversOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		c := f.connect(t, &wireProtocol{}, "ann")
		req := &controlv1.SendRequest{Target: users("ann"), Message: text("x"), RequestId: "r1"}
		first := f.send(t, req)
		// A retry may wait differently.
		req.Wait, req.WaitTimeout = controlv1.Wait_WAIT_WRITTEN, durationpb.New(time.Second)
		again := f.send(t, req)
		holdReceipt(
			t, &controlv1.Receipt{Matched: 1, Written: 1, NotAckable: 1, Duplicate: true}, again,
		)
		if again.GetMessageId() != first.GetMessageId() {
			t.Errorf("message %s, then %s", first.GetMessageId(), again.GetMessageId())
		}
		if c.received() != "x|" {
			t.Errorf("received %q", c.received())
		}
		// It is the namespace's own, and forgotten after five minutes.
		other := proto.CloneOf(req)
		other.Namespace = "other"
		holdReceipt(t, &controlv1.Receipt{}, f.send(t, other))
		time.Sleep(5*time.Minute + time.Second)
		holdReceipt(t, &controlv1.Receipt{Matched: 1, Written: 1, NotAckable: 1}, f.send(t, req))
	})
}

// hashOf returns the hash that identifyRequest makes of a request.
func hashOf(t *testing.T, req *controlv1.SendRequest) [sha256.Size]byte {
	t.Helper()
	var s hub.Send
	before := proto.CloneOf(req)
	if err := identifyRequest(&s, req); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, req, protocmp.Transform()); diff != "" {
		t.Errorf("identifyRequest changed the request: %s", diff)
	}
	return s.RequestHash
}

func TestRequestHashCoversEveryFieldButThoseOfTheRetry(t *testing.T) {
	full := func() *controlv1.SendRequest {
		return &controlv1.SendRequest{
			Namespace: "n", Target: users("ann"), Message: text("x"), RequestId: "r",
			Wait: controlv1.Wait_WAIT_ACKED, WaitTimeout: durationpb.New(time.Second),
			OverflowPolicy: controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE, ConflationKey: "k",
			Detail: controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS, RequireAllHubs: true,
		}
	}
	want := hashOf(t, full())
	fields := full().ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		req := full()
		if !req.ProtoReflect().Has(field) {
			t.Errorf("the test knows no value of %s", field.Name())
		}
		req.ProtoReflect().Clear(field)
		if field.Name() == "request_id" {
			req.RequestId = "other"
		}
		retries := []protoreflect.Name{"request_id", "wait", "wait_timeout", "require_all_hubs"}
		mayDiffer := false
		for _, name := range retries {
			mayDiffer = mayDiffer || field.Name() == name
		}
		if same := hashOf(t, req) == want; same != mayDiffer {
			t.Errorf("%s: hash is the same: %v", field.Name(), same)
		}
	}
}
