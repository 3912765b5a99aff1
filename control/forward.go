package control

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"time"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/fleet"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/control/reading"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/names"
)

// This file has both ends of a forwarded send, and the executor of all calls. The entry hub, which
// a backend called, encodes a send. The hub with the connections carries it out. The other verbs
// are in verb.go, publishes in publish.go.

// returnTime is by how much a wait at a peer ends early, so that its receipt is back in time. It is
// at most a tenth of the wait.
const returnTime = 100 * time.Millisecond

// newSendCall returns a send as a call for peers. It encodes the request once for all of them.
func newSendCall(checked *checkedSend) (*mesh.Call, error) {
	wait := checked.until.Sub(checked.began)
	timeout := wait - min(wait/10, returnTime)
	b, err := form.EncodeSend(checked.request, checked.send.Message.ID, timeout)
	if err != nil {
		return nil, err
	}
	var c struct { // a single allocation
		call    mesh.Call
		forward peerv1.Forward
		kind    peerv1.Forward_Send
		send    peerv1.ForwardSend
	}
	c.send.Request, c.send.TraceParent = b, checked.send.Message.TraceParent
	if checked.send.RequestID != "" {
		c.send.RequestHash = bytes.Clone(checked.send.RequestHash[:]) // that memory is used again
	}
	c.kind.Send, c.forward.Call = &c.send, &c.kind
	c.call = mesh.Call{Caller: checked.send.Caller, Began: checked.began, Forward: &c.forward}
	return &c.call, nil
}

// executor carries out the calls that peers forward to this hub.
type executor struct {
	hub    *hub.Hub
	check  func(proto.Message) error // the rules of the protos
	logger *slog.Logger
	verbs  verbTable         // constant
	room   func() fleet.Room // nil: it is not known
}

var _ mesh.Executor = (*executor)(nil)

// Execute implements mesh.Executor. When it returns, the call has done its work on connections. The
// execution then waits only for clients, and for peers.
func (e *executor) Execute(
	ctx context.Context, f *peerv1.Forward, scope mesh.Scope, burst *hub.Burst,
) (x mesh.Execution) {
	defer func() {
		if p := recover(); p != nil {
			x = finishedExecution(e.panicResult(p))
		}
	}()
	if send := f.GetSend(); send != nil {
		return e.executeSend(ctx, f, scope, burst)
	}
	row, known := e.verbs[mesh.KindOf(f)]
	if !known {
		return finishedExecution(errorResult(failure.ErrUnknownMethod))
	}
	return row.execute(ctx, e, f, scope)
}

// Read implements mesh.Executor. It answers a reading.Reader of a peer.
func (e *executor) Read(
	ctx context.Context, r *peerv1.ReadRequest,
) (*peerv1.ReadResponse, error) {
	response, err := reading.AnswerPeer(ctx, e.hub, r)
	if err == nil && r.GetSelf() != nil && e.room != nil {
		response.Room = e.room().AsMessage()
	}
	return response, err
}

// finishedExecution returns the execution of a call that has its result.
func finishedExecution(r *peerv1.ForwardResult) mesh.Execution {
	return mesh.Execution{Result: func() *peerv1.ForwardResult { return r }}
}

// panicResult turns a panic into a result. The panic must end neither the lane, which carries the
// calls of many callers, nor the process.
func (e *executor) panicResult(p any) *peerv1.ForwardResult {
	e.logger.Error("forwarded call panicked",
		"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	return errorResult(failure.ErrInternal)
}

// acceptedAt returns when the entry hub accepted the call.
func acceptedAt(f *peerv1.Forward) time.Time { return time.Now().Add(-f.GetAge().AsDuration()) }

func (e *executor) executeSend(
	ctx context.Context, f *peerv1.Forward, scope mesh.Scope, burst *hub.Burst,
) mesh.Execution {
	s := f.GetSend()
	req := &controlv1.SendRequest{}
	if err := decodeForwarded(s.GetRequest(), req); err != nil {
		return finishedExecution(errorResult(err))
	}
	// The entry hub has checked the rest, which would take longer than the send.
	if !names.IsNamespace(form.NamespaceOf(req)) {
		return finishedExecution(errorResult(failure.ErrInvalidField))
	}
	from := sourceCall{
		caller: f.GetCaller(), traceParent: s.GetTraceParent(), began: acceptedAt(f),
	}
	send := newSend(req, from)
	send.Message.Sender = hub.Sender{
		Connection: hub.ConnectionID(s.GetSender().GetConnection()), User: s.GetSender().GetUser(),
	}
	// The hash is of the backend's request. The request here has fields that the entry hub added.
	copy(send.RequestHash[:], s.GetRequestHash())
	send.Burst = burst
	limitSend(&send, scope)
	until := dueAt(req, from)
	delivery, err := e.hub.Deliver(ctx, &send)
	if err != nil {
		x := finishedExecution(errorResult(err))
		x.Until = until
		return x
	}
	var target *hub.Target // a waiting execution keeps only the part of the request for its result
	if send.Detail {
		of := send.Target
		target = &of
	}
	x := mesh.Execution{Until: until, Result: func() (result *peerv1.ForwardResult) {
		defer func() {
			if p := recover(); p != nil {
				result = e.panicResult(p)
			}
		}()
		return sendResult(target, delivery)
	}}
	if send.Wait > hub.WaitQueued {
		x.Awaited = delivery
	}
	return x
}

// limitSend limits a send to a scope. With Only it is a part of a send that this hub may know
// already, so it has a request id of its own: a retry may be held for the same connection.
func limitSend(s *hub.Send, scope mesh.Scope) {
	limitTarget(&s.Target, scope)
	if scope.Only != "" && s.RequestID != "" {
		s.RequestID += "\x00" + string(scope.Only) // ids of backends have no such character
	}
}

// limitTarget limits a target to a scope.
func limitTarget(t *hub.Target, scope mesh.Scope) {
	t.Only = scope.Only
	if len(scope.Except) == 0 {
		return
	}
	except := slices.Clone(t.Except.Connections) // the request has it, too
	for _, id := range scope.Except {
		except = append(except, string(id))
	}
	t.Except.Connections = except
}

// sendResult returns the result of a send. target is its target if the result is to name the
// matches, else nil.
func sendResult(target *hub.Target, d *hub.Delivery) *peerv1.ForwardResult {
	local := d.Receipt()
	var r struct { // a single allocation
		forward peerv1.ForwardResult
		kind    peerv1.ForwardResult_Send
		send    peerv1.SendResult
		receipt controlv1.Receipt
	}
	r.forward.Result, r.kind.Send, r.send.Receipt = &r.kind, &r.send, &r.receipt
	form.FillReceipt(&r.receipt, &local)
	if local.Unmatched != nil {
		r.send.MatchedNames = form.MatchedNames(target, local.Unmatched)
	}
	if !local.Duplicate {
		r.receipt.MessageId = ""
	}
	return &r.forward
}

// decodeForwarded decodes a request that a peer has checked.
func decodeForwarded(b []byte, req proto.Message) error {
	if err := form.DecodeMessage(b, req); err != nil {
		name := req.ProtoReflect().Descriptor().Name()
		return fmt.Errorf("%w: a forwarded %s can't be decoded", failure.ErrInvalidField, name)
	}
	return nil
}

// errorResult returns the result of a call that ended with an error.
func errorResult(err error) *peerv1.ForwardResult {
	// If this fails, the peer reads the result as a fault of this hub.
	b, _ := proto.Marshal(status.Convert(failure.ToStatus(err)).Proto())
	return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Status{Status: b}}
}
