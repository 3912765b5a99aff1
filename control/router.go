package control

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// router carries out the verbs at every hub that may have matching connections. It asks the mesh
// for these hubs, forwards the call, does this hub's part, and gathers the results.
type router struct {
	hub   *hub.Hub
	mesh  *mesh.Mesh  // nil: there are no peers
	moves *mesh.Moves // the gate through which each call begins; nil: no connection moves
}

func newRouter(h *hub.Hub, m *mesh.Mesh) *router {
	r := &router{hub: h, mesh: m}
	if m != nil {
		r.moves = m.Moves
	}
	return r
}

// gatherAnswers waits until a deadline for the answers of peers, and calls take with each. It
// returns the hubs whose part is unknown. An error that is for the backend ends it.
func (r *router) gatherAnswers(
	ctx context.Context, g *mesh.Gathering, until time.Time, take func(*peerv1.ForwardResult),
) ([]hub.ID, error) {
	if g == nil {
		return nil, nil
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	g.Insist(ctx) // if that is too late for a hub, its outcome is unknown
	return takeOutcomes(g.Wait(ctx), take)
}

// takeOutcomes is gatherAnswers for outcomes that need no more waiting.
func takeOutcomes(
	outcomes []mesh.Outcome, take func(*peerv1.ForwardResult),
) (lost []hub.ID, _ error) {
	for _, o := range outcomes {
		err := errorIn(o.Result)
		switch {
		case o.Result == nil || isInconclusive(err):
			lost = append(lost, o.Hub)
		case err != nil:
			return nil, err
		default:
			take(o.Result)
		}
	}
	return lost, nil
}

// errorIn returns the error that a hub answered with.
func errorIn(r *peerv1.ForwardResult) error {
	failed, ok := r.GetResult().(*peerv1.ForwardResult_Status)
	if !ok {
		return nil
	}
	var st spb.Status
	if err := proto.Unmarshal(failed.Status, &st); err != nil || st.GetCode() == 0 {
		return failure.ErrInternal
	}
	return failure.FromStatus(status.ErrorProto(&st))
}

// isInconclusive reports whether an error of a peer tells nothing about the call: the peer leaves,
// gave up, or is at fault.
func isInconclusive(err error) bool {
	for _, kind := range []error{
		hub.ErrShuttingDown, context.Canceled, context.DeadlineExceeded,
		failure.ErrInternal, failure.ErrHubsUnreachable,
	} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// fewHubs is the most hubs of a route that needs no allocation.
const fewHubs = 4

// Send brings a message on its way. It returns when the message is in the outbox of each matching
// connection of this hub, and in line for each hub that may have more. It waits for no client and
// no hub; ctx bounds the wait for a place in line. The sends of a caller that waits for Send to
// return reach each connection in their order.
func (r *router) Send(ctx context.Context, checked *checkedSend) (*activeSend, error) {
	if r.hub.Leaving() {
		return nil, hub.ErrShuttingDown // no hub has delivered it
	}
	if checked.send.Message.ID == "" {
		checked.send.Message.ID = r.hub.NewMessageID()
	}
	s := &checked.sending
	s.router, s.checked = r, checked
	if !r.moves.EnterCall() {
		if err := s.startWhileMoving(); err != nil {
			return nil, err
		}
		return s, nil
	}
	if err := s.startEverywhere(ctx); err != nil {
		return nil, err
	}
	s.insistOnRoom(ctx)
	return s, nil
}

// suspectsIn returns the hubs that get the call, but may not answer.
func suspectsIn(to []mesh.Destination) (suspects []hub.ID) {
	for _, d := range to {
		if d.Suspect {
			suspects = append(suspects, d.Hub)
		}
	}
	return suspects
}

// startEverywhere puts the message in line for peers, and does this hub's part. The caller has
// entered the gate. startEverywhere leaves it.
//
// The peers come first: to put the message in line for them is quick, and they deliver while this
// hub does. With a request id this hub comes first, because it finds out whether the id was used
// before. A duplicate waits in the gate for the first send, which is in its own gate already.
func (s *activeSend) startEverywhere(ctx context.Context) error {
	defer s.router.moves.LeaveCall()
	send := &s.checked.send
	var memory [fewHubs]mesh.Destination
	route := s.router.mesh.RouteInto(memory[:0], send.Message.Namespace, &send.Target)
	if s.noteGaps(route) && s.checked.request.GetRequireAllHubs() {
		return failure.ErrHubsUnreachable
	}
	if send.RequestID != "" {
		if err := s.deliverHere(ctx); err != nil {
			return err
		}
		return s.queueForHubs(route.To)
	}
	if err := s.queueForHubs(route.To); err != nil {
		return err
	}
	return s.deliverHere(ctx)
}

// startWhileMoving is startEverywhere while connections move from this hub or to it. This hub's
// part is an outcome like those of peers.
func (s *activeSend) startWhileMoving() error {
	r, send := s.router, &s.checked.send
	if s.checked.request.GetRequireAllHubs() {
		route := r.mesh.RouteFor(send.Message.Namespace, &send.Target)
		if len(route.Unreachable)+len(suspectsIn(route.To)) > 0 {
			return failure.ErrHubsUnreachable // no hub has the message
		}
	}
	call, err := newSendCall(s.checked)
	if err != nil {
		return err
	}
	var route mesh.Route
	s.others, route = r.moves.Forward(call, send.Message.Namespace, &send.Target)
	s.isMoving = true
	s.noteGaps(route) // new gaps show in the receipt
	return nil
}

// noteGaps notes the hubs whose part is unknown from the start. It reports whether there are any,
// or hubs that may not answer.
func (s *activeSend) noteGaps(route mesh.Route) bool {
	s.lost = append(s.lost, route.Unreachable...) // a copy, so that route.To stays on the stack
	suspects := suspectsIn(route.To)
	some := len(s.lost)+len(suspects) > 0
	if s.checked.send.Wait == hub.WaitNone {
		s.lost = append(s.lost, suspects...) // with a wait, their answers will show
	}
	return some
}

// queueForHubs puts the message in line for peers.
func (s *activeSend) queueForHubs(to []mesh.Destination) error {
	if len(to) == 0 {
		return nil
	}
	call, err := newSendCall(s.checked)
	if err != nil {
		return err
	}
	s.others = s.router.mesh.Forward(call, to)
	return nil
}

// deliverHere does this hub's part.
func (s *activeSend) deliverHere(ctx context.Context) error {
	delivery, err := s.router.hub.Deliver(ctx, &s.checked.send)
	if errors.Is(err, hub.ErrShuttingDown) && s.others != nil {
		s.lost = append(s.lost, s.router.hub.ID())
		return nil
	}
	s.delivery = delivery
	return err
}

// insistOnRoom waits until slow peers accept the call, bounded by the caller's deadline. With
// WAIT_NONE it does not wait.
func (s *activeSend) insistOnRoom(ctx context.Context) {
	if s.others == nil || !s.others.Insisting() {
		return
	}
	if burst := s.checked.send.Burst; burst != nil {
		burst.Flush() // clients do not wait for peers
	}
	until := s.checked.until
	if s.checked.send.Wait == hub.WaitNone {
		until = s.checked.began
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	s.lost = append(s.lost, s.others.Insist(ctx)...)
}

// activeSend is a send whose message is on its way at this hub and at its peers.
type activeSend struct {
	router   *router
	checked  *checkedSend
	delivery *hub.Delivery   // nil: this hub took no part, because it leaves; or isMoving
	others   *mesh.Gathering // the answers of peers; nil: no peer takes part
	isMoving bool            // others has this hub's part, too
	lost     []hub.ID
	asked    bool            // callWhenDue was called, or will be
	parts    atomic.Int32    // callWhenDue waits for so many: this hub, the peers
	sum      form.ReceiptSum // of the receipts
	// into is memory for the receipt, empty; nil: Receipt allocates it.
	into *controlv1.Receipt
}

// Receipt returns when the message has come as far as the request asked, at checkedSend.until, or
// when ctx is done.
func (s *activeSend) Receipt(ctx context.Context) (*controlv1.Receipt, error) {
	checked := s.checked
	var local *hub.Receipt
	if s.delivery != nil {
		if !s.asked {
			s.awaitHere(ctx)
		}
		r := s.delivery.Receipt()
		local = &r
	}
	s.sum = form.NewReceiptSum(&checked.send, local, s.into)
	if s.others != nil && (s.isMoving || checked.send.Wait != hub.WaitNone) {
		lost, err := s.gatherReceipts(ctx)
		if err != nil {
			return nil, err
		}
		s.lost = append(s.lost, lost...)
	}
	if checked.request.GetRequireAllHubs() && len(s.lost) > 0 {
		return nil, failure.ErrHubsUnreachable
	}
	answer := s.sum.Total()
	answer.UnreachableHubs = form.HubNames(s.lost)
	answer.DiscoveryStaleFor = form.StaleFor(s.router.mesh.StaleFor())
	return answer, nil
}

// recycleSend gives back the memory of a send that has its receipt. The caller must not use s any
// more. It does nothing if something else may refer to the send: see recycleChecked.
func (s *activeSend) recycleSend() {
	// Finished and parts tell whether the callbacks of callWhenDue are through with s.
	free := s.others == nil && !s.asked
	if s.others != nil {
		free = s.others.Finished() && s.parts.Load() == 0
	}
	if free {
		s.checked.recycleChecked()
	}
}

// gatherReceipts adds the receipts of peers, and returns the peers whose part is unknown.
func (s *activeSend) gatherReceipts(ctx context.Context) ([]hub.ID, error) {
	switch {
	case s.checked.send.Wait == hub.WaitNone:
		return s.lookHere()
	case s.asked:
		return takeOutcomes(s.others.Outcomes(), s.sum.AddResult)
	default:
		return s.router.gatherAnswers(ctx, s.others, s.checked.until, s.sum.AddResult)
	}
}

// lookHere adds this hub's part while connections move, and does not wait for it: connections
// count as pending until it is known.
func (s *activeSend) lookHere() (lost []hub.ID, _ error) {
	h, send := s.router.hub, &s.checked.send
	if result := s.others.Peek(h.ID()); result != nil {
		return takeOutcomes([]mesh.Outcome{{Hub: h.ID(), Result: result}}, s.sum.AddResult)
	}
	s.sum.AddPending(h.Count(send.Message.Namespace, &send.Target))
	return nil, nil
}

// awaitHere waits for this hub's part. As a rule that is done, and then there is no need for a
// timer.
func (s *activeSend) awaitHere(ctx context.Context) {
	if s.delivery.Reached() {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, s.checked.until)
	defer cancel()
	s.delivery.Wait(ctx)
}

// Close closes the matching connections of every hub. With max_matched it takes two rounds: all
// hubs count, then those that counted close.
func (r *router) Close(
	ctx context.Context, req *controlv1.CloseConnectionsRequest,
) (*controlv1.CloseConnectionsResponse, error) {
	limit := req.GetMaxMatched()
	if limit == 0 || r.mesh == nil {
		return callEverywhere(ctx, r, &closeVerb, req)
	}
	req.MaxMatched = 0 // a hub would apply it to its own connections alone
	counted, lost, err := sumEverywhere(ctx, r, &countVerb, req, nil)
	switch {
	case err != nil:
		return nil, err
	case counted.GetMatched() > limit:
		return nil, hub.ErrTooManyMatched
	}
	return callBut(ctx, r, &closeVerb, req, lost)
}
