package control

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/overflow"
)

// defaultWait is how long a send waits if it sets no wait_timeout: as long as a person would wait.
const defaultWait = 5 * time.Second

// checkedSend is a send that has passed the rules, and the memory of its activeSend.
type checkedSend struct {
	send    hub.Send
	request *controlv1.SendRequest // as it came
	began   time.Time
	until   time.Time  // when the receipt is due
	sending activeSend // of router.Send: a single allocation
}

// checkedSends has zero values for all sends.
var checkedSends = sync.Pool{New: func() any { return new(checkedSend) }}

// recycleChecked gives the memory of c back. No reference to c may be left. The hub keeps none: it
// keeps the message of a send, and not the hub.Send. But a callback of callWhenDue may come late.
func (c *checkedSend) recycleChecked() {
	*c = checkedSend{}
	checkedSends.Put(c)
}

type deliveryService struct {
	controlv1.UnimplementedDeliveryServiceServer
	router *router
}

// Send implements the RPC.
func (d *deliveryService) Send(
	ctx context.Context, req *controlv1.SendRequest,
) (*controlv1.SendResponse, error) {
	sending, err := d.beginAndWrite(ctx, req)
	if err != nil {
		return nil, err
	}
	receipt, err := sending.Receipt(ctx)
	if err != nil {
		return nil, err
	}
	sending.recycleSend()
	return &controlv1.SendResponse{Receipt: receipt}, nil
}

// beginAndWrite is beginSend for a send that is not of a stream: the links of clients have written
// when it returns. They write outside the gate of moves, because that may take long.
func (d *deliveryService) beginAndWrite(
	ctx context.Context, req *controlv1.SendRequest,
) (*activeSend, error) {
	b := newBurst()
	defer b.recycleBurst()
	defer b.links.Flush() // also if a protocol panics
	return d.beginSend(ctx, req, sourceCallOf(ctx), &b.links)
}

// beginSend brings the message of a request on its way. The request has passed the rules of its
// proto. The send begins now. The caller flushes burst soon, also if beginSend panics.
func (d *deliveryService) beginSend(
	ctx context.Context, req *controlv1.SendRequest, from sourceCall, burst *hub.Burst,
) (*activeSend, error) {
	if err := form.CheckSend(req); err != nil {
		return nil, err
	}
	from.began = time.Now()
	checked := newCheckedSend(req, from)
	checked.send.Burst = burst
	if err := identifyRequest(&checked.send, req); err != nil {
		return nil, err
	}
	sending, err := d.router.Send(ctx, checked)
	checked.send.Burst = nil // checked lives on for the receipt, and burst is the caller's
	return sending, err
}

// sourceCall is the call of a backend that a send comes from, at this hub or at a peer.
type sourceCall struct {
	caller, traceParent string
	began               time.Time // when the hub that was called accepted it
	deadline            time.Time // of the call; zero: none
}

// sourceCallOf returns the fields that all sends of a call have in common.
func sourceCallOf(ctx context.Context) sourceCall {
	deadline, _ := ctx.Deadline()
	c := port.CallerOf(ctx)
	return sourceCall{caller: c.Name, traceParent: c.TraceParent, deadline: deadline}
}

// newCheckedSend translates a checked request.
func newCheckedSend(req *controlv1.SendRequest, from sourceCall) *checkedSend {
	c := checkedSends.Get().(*checkedSend)
	c.send, c.request, c.began, c.until = newSend(req, from), req, from.began, dueAt(req, from)
	return c
}

// dueAt returns when the receipt of a send is due.
func dueAt(req *controlv1.SendRequest, from sourceCall) time.Time {
	return from.began.Add(waitTimeout(from, req.GetWaitTimeout()))
}

// newSend translates a checked request for this hub.
func newSend(req *controlv1.SendRequest, from sourceCall) hub.Send {
	namespace := form.NamespaceOf(req)
	return hub.Send{
		Message:       form.NewMessage(namespace, req.GetMessage(), from.traceParent, from.began),
		Target:        form.NewTarget(req.GetTarget()),
		Wait:          waits[req.GetWait()],
		Policy:        policies[req.GetOverflowPolicy()],
		ConflationKey: req.GetConflationKey(),
		Detail:        req.GetDetail() == controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS,
		RequestID:     req.GetRequestId(),
		Caller:        from.caller,
	}
}

var waits = map[controlv1.Wait]hub.Wait{
	controlv1.Wait_WAIT_UNSPECIFIED: hub.WaitQueued,
	controlv1.Wait_WAIT_NONE:        hub.WaitNone,
	controlv1.Wait_WAIT_QUEUED:      hub.WaitQueued,
	controlv1.Wait_WAIT_WRITTEN:     hub.WaitWritten,
	controlv1.Wait_WAIT_ACKED:       hub.WaitAcked,
}

var policies = map[controlv1.OverflowPolicy]overflow.Policy{
	controlv1.OverflowPolicy_OVERFLOW_POLICY_UNSPECIFIED: overflow.Default,
	controlv1.OverflowPolicy_OVERFLOW_POLICY_CLOSE:       overflow.CloseSlow,
	controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_OLDEST: overflow.DropOldest,
	controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_NEWEST: overflow.DropNewest,
	controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE:    overflow.Conflate,
}

// identifyRequest sets the hash by which the hub knows a retry of the request. The hash leaves out
// the fields that may differ in a retry: wait, wait_timeout, require_all_hubs, and the request id.
// A field that the API gets later is hashed from the start.
func identifyRequest(s *hub.Send, req *controlv1.SendRequest) error {
	if req.GetRequestId() == "" {
		return nil
	}
	id, wait := req.GetRequestId(), req.GetWait()
	timeout, all := req.GetWaitTimeout(), req.GetRequireAllHubs()
	req.RequestId, req.Wait = "", controlv1.Wait_WAIT_UNSPECIFIED
	req.WaitTimeout, req.RequireAllHubs = nil, false
	defer func() {
		req.RequestId, req.Wait, req.WaitTimeout, req.RequireAllHubs = id, wait, timeout, all
	}()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return err
	}
	s.RequestHash = sha256.Sum256(b)
	return nil
}

// waitTimeout returns how long a send may wait: as asked, but at most until a tenth before the
// call's deadline, so that the receipt reaches the caller in time.
func waitTimeout(from sourceCall, asked *durationpb.Duration) time.Duration {
	timeout := defaultWait
	if asked != nil {
		timeout = asked.AsDuration()
	}
	if !from.deadline.IsZero() {
		left := from.deadline.Sub(from.began)
		timeout = min(timeout, left-left/10)
	}
	return max(timeout, 0)
}
