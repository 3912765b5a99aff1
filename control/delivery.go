package control

import (
	"context"
	"crypto/sha256"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// defaultWait is how long a send waits when it does not say: what a person would wait for.
const defaultWait = 5 * time.Second

// sender delivers a message, waits until Send.Wait is reached or for as long as wait at most, and tells
// what became of it.
type sender interface {
	Send(ctx context.Context, s *hub.Send, wait time.Duration) (hub.Receipt, error)
}

type deliveryService struct {
	controlv1.UnimplementedDeliveryServiceServer
	sender sender
}

// Send implements the RPC.
func (d *deliveryService) Send(ctx context.Context, req *controlv1.SendRequest) (*controlv1.SendResponse, error) {
	if err := checkConflation(req); err != nil {
		return nil, err
	}
	message, err := newMessage(ctx, namespace(req), req.GetMessage())
	if err != nil {
		return nil, err
	}
	s := &hub.Send{
		Message:       message,
		Target:        newTarget(req.GetTarget()),
		Wait:          waits[req.GetWait()],
		Policy:        policies[req.GetOverflowPolicy()],
		ConflationKey: req.GetConflationKey(),
		Detail:        req.GetDetail() == controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS,
	}
	if err := identifyRequest(ctx, s, req); err != nil {
		return nil, err
	}
	receipt, err := d.sender.Send(ctx, s, waitTimeout(ctx, req.GetWaitTimeout()))
	if err != nil {
		return nil, err
	}
	return &controlv1.SendResponse{Receipt: newReceipt(&receipt)}, nil
}

var waits = map[controlv1.Wait]hub.Wait{
	controlv1.Wait_WAIT_UNSPECIFIED: hub.WaitQueued,
	controlv1.Wait_WAIT_NONE:        hub.WaitNone,
	controlv1.Wait_WAIT_QUEUED:      hub.WaitQueued,
	controlv1.Wait_WAIT_WRITTEN:     hub.WaitWritten,
	controlv1.Wait_WAIT_ACKED:       hub.WaitAcked,
}

var policies = map[controlv1.OverflowPolicy]hub.Policy{
	controlv1.OverflowPolicy_OVERFLOW_POLICY_UNSPECIFIED: hub.PolicyDefault,
	controlv1.OverflowPolicy_OVERFLOW_POLICY_CLOSE:       hub.CloseSlow,
	controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_OLDEST: hub.DropOldest,
	controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_NEWEST: hub.DropNewest,
	controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE:    hub.Conflate,
}

// checkConflation holds that the key and the policy come together.
func checkConflation(req *controlv1.SendRequest) error {
	conflates := req.GetOverflowPolicy() == controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE
	switch {
	case conflates && req.GetConflationKey() == "":
		return &fieldError{errInvalidField, "conflation_key", "must be set with the policy CONFLATE"}
	case !conflates && req.GetConflationKey() != "":
		return &fieldError{errInvalidField, "conflation_key", "must be empty without the policy CONFLATE"}
	}
	return nil
}

// identifyRequest fills in what makes a retry of this request known. The hash leaves out what may differ in
// a retry: how long it waits, and the id itself. A field that the API gets later is hashed from the start.
func identifyRequest(ctx context.Context, s *hub.Send, req *controlv1.SendRequest) error {
	if req.GetRequestId() == "" {
		return nil
	}
	s.RequestID, s.Caller = req.GetRequestId(), caller(ctx).Name
	wait, timeout := req.GetWait(), req.GetWaitTimeout()
	req.RequestId, req.Wait, req.WaitTimeout = "", controlv1.Wait_WAIT_UNSPECIFIED, nil
	defer func() { req.RequestId, req.Wait, req.WaitTimeout = s.RequestID, wait, timeout }()
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return err
	}
	s.RequestHash = sha256.Sum256(b)
	return nil
}

// waitTimeout is how long a send may wait: as asked, and a tenth short of the call's deadline, so that the
// receipt reaches the caller in time.
func waitTimeout(ctx context.Context, asked *durationpb.Duration) time.Duration {
	timeout := defaultWait
	if asked != nil {
		timeout = asked.AsDuration()
	}
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		timeout = min(timeout, left-left/10)
	}
	return max(timeout, 0)
}

// localSender delivers at this hub.
type localSender struct{ hub *hub.Hub }

var _ sender = localSender{}

// Send implements sender. hub.Deliver returns when the message is queued everywhere, so only the waits
// beyond that need a timer.
func (l localSender) Send(ctx context.Context, s *hub.Send, wait time.Duration) (hub.Receipt, error) {
	delivery, err := l.hub.Deliver(ctx, s)
	if err != nil {
		return hub.Receipt{}, err
	}
	if s.Wait > hub.WaitQueued {
		ctx, cancel := context.WithTimeout(ctx, wait)
		defer cancel()
		delivery.Wait(ctx)
	}
	return delivery.Receipt(), nil
}
