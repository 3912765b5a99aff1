package control

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/names"
)

// This file is both ends of a forwarded call: how the hub that a backend called words it, and how the hub that has the
// connections carries it out.

// returnTime is what a wait at another hub ends early by, so that its receipt is back in time; at most a tenth of the wait.
const returnTime = 100 * time.Millisecond

// newSendCall words a send. The request is marshalled once, whatever the number of hubs.
func newSendCall(o *outgoing) (*mesh.Call, error) {
	wait := o.until.Sub(o.began)
	timeout := wait - min(wait/10, returnTime)
	b, ok := encodeSend(o, timeout)
	if !ok {
		var err error
		if b, err = proto.Marshal(newSendRequest(o, timeout)); err != nil {
			return nil, err
		}
	}
	var c struct { // in one piece of memory
		call    mesh.Call
		forward peerv1.Forward
		kind    peerv1.Forward_Send
		send    peerv1.ForwardSend
	}
	c.send.Request, c.send.TraceParent = b, o.send.Message.TraceParent
	if o.send.RequestID != "" {
		c.send.RequestHash = o.send.RequestHash[:]
	}
	c.kind.Send, c.forward.Call = &c.send, &c.kind
	c.call = mesh.Call{Caller: o.send.Caller, Began: o.began, Forward: &c.forward}
	return &c.call, nil
}

// newSendRequest words the request for another hub.
func newSendRequest(o *outgoing, timeout time.Duration) *controlv1.SendRequest {
	req := o.request
	return &controlv1.SendRequest{
		Namespace: o.send.Message.Namespace, Target: req.GetTarget(),
		Message: &controlv1.Message{
			Id: o.send.Message.ID, Event: req.GetMessage().GetEvent(), Payload: req.GetMessage().GetPayload(),
			Metadata: req.GetMessage().GetMetadata(), Ttl: req.GetMessage().GetTtl(),
		},
		Wait: req.GetWait(), WaitTimeout: durationpb.New(timeout),
		OverflowPolicy: req.GetOverflowPolicy(), ConflationKey: req.GetConflationKey(),
		RequestId: req.GetRequestId(), Detail: req.GetDetail(),
	}
}

// executor carries out what other hubs forward to this one.
type executor struct {
	hub    *hub.Hub
	check  func(proto.Message) error // the rules of the protos
	logger *slog.Logger
}

var _ mesh.Executor = (*executor)(nil)

// Execute implements mesh.Executor. Whatever the call does to connections is done when it returns; what is waited for
// after that is clients, and other hubs.
func (e *executor) Execute(ctx context.Context, f *peerv1.Forward, burst *hub.Burst) (x mesh.Execution) {
	defer func() {
		if p := recover(); p != nil {
			x = finishedExecution(e.panicResult(p))
		}
	}()
	if send := f.GetSend(); send != nil {
		return e.executeSend(ctx, f, send, burst)
	}
	begin := executionFor(f)
	if begin == nil {
		return finishedExecution(errorResult(errUnknownMethod))
	}
	return begin(ctx, e, f)
}

// through is the execution of a call that has its result.
func finishedExecution(r *peerv1.ForwardResult) mesh.Execution {
	return mesh.Execution{Result: func() *peerv1.ForwardResult { return r }}
}

// panicked turns a panic into a result: it must not end the lane, with all that others have on it, nor the process.
func (e *executor) panicResult(p any) *peerv1.ForwardResult {
	e.logger.Error("forwarded call panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return errorResult(errInternal)
}

// began is when the hub that a backend called accepted the call.
func acceptedAt(f *peerv1.Forward) time.Time { return time.Now().Add(-f.GetAge().AsDuration()) }

func (e *executor) executeSend(ctx context.Context, f *peerv1.Forward, s *peerv1.ForwardSend, burst *hub.Burst) mesh.Execution {
	req := &controlv1.SendRequest{}
	if err := decodeForwarded(s.GetRequest(), req); err != nil {
		return finishedExecution(errorResult(err))
	}
	if !names.IsNamespace(namespaceOf(req)) { // the rest was checked where it came in, and would take longer than the send
		return finishedExecution(errorResult(errInvalidField))
	}
	o := newOutgoing(req, origin{caller: f.GetCaller(), traceParent: s.GetTraceParent(), began: acceptedAt(f)})
	o.send.Message.Sender = hub.Sender{Connection: hub.ConnectionID(s.GetSender().GetConnection()), User: s.GetSender().GetUser()}
	copy(o.send.RequestHash[:], s.GetRequestHash()) // of what the backend asked: this request says it in other words
	o.send.Burst = burst
	delivery, err := e.hub.Deliver(ctx, &o.send)
	if err != nil {
		return finishedExecution(errorResult(err))
	}
	var target *hub.Target // what waits for clients keeps no more of the request than the result needs
	if o.send.Detail {
		of := o.send.Target
		target = &of
	}
	x := mesh.Execution{Result: func() (result *peerv1.ForwardResult) {
		defer func() {
			if p := recover(); p != nil {
				result = e.panicResult(p)
			}
		}()
		return sendResult(target, delivery)
	}}
	if o.send.Wait > hub.WaitQueued {
		x.Then, x.Until = delivery.Then, o.until
	}
	return x
}

// sent is the result of a send. target is its target, if the result is to name what matched.
func sendResult(target *hub.Target, d *hub.Delivery) *peerv1.ForwardResult {
	local := d.Receipt()
	var r struct { // in one piece of memory
		forward peerv1.ForwardResult
		kind    peerv1.ForwardResult_Send
		send    peerv1.SendResult
	}
	r.forward.Result, r.kind.Send, r.send.Receipt = &r.kind, &r.send, newReceipt(&local)
	if local.Unmatched != nil {
		r.send.MatchedNames = matchedNames(target, local.Unmatched)
	}
	if !local.Duplicate {
		r.send.Receipt.MessageId = ""
	}
	return &r.forward
}

// decode reads a request that another hub has checked.
func decodeForwarded(b []byte, req proto.Message) error {
	if err := unmarshal(b, req); err != nil {
		return fmt.Errorf("%w: a forwarded %s can't be decoded", errInvalidField, req.ProtoReflect().Descriptor().Name())
	}
	return nil
}

// failed is the result of a call that ended with an error.
func errorResult(err error) *peerv1.ForwardResult {
	b, _ := proto.Marshal(status.Convert(toStatus(err)).Proto()) // what fails to marshal reads as a fault of this hub
	return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Status{Status: b}}
}
