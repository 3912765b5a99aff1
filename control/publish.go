package control

import (
	"context"
	"errors"
	"time"
	"unsafe"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/overflow"
)

// Publish delivers a client's message to its target on all hubs. It returns once the message is in
// the outbox of each matching connection here, and in line for each peer that may have more.
//
// Publish waits for no client. It waits for a peer that is behind and makes progress, which holds
// up this sender alone. The message is lost for a peer without a link, for a peer without progress
// for 500 ms, and for a peer whose link ends while the message is in line. The hub counts each
// loss.
//
// The messages of a sender that waits for Publish to return arrive in order. send must have no
// RequestID; its Wait is ignored. The error hub.ErrShuttingDown means that no connection has the
// message.
func (s *Server) Publish(ctx context.Context, send *hub.Send) error {
	return s.publisher.publishMessage(ctx, send)
}

// publisher passes on the messages of clients.
type publisher struct {
	router *router
	lost   *lostPublishes
}

// publishMessage brings a message on its way, as router.Send does, and counts what is lost.
func (p *publisher) publishMessage(ctx context.Context, s *hub.Send) error {
	if p.router.hub.Leaving() {
		return hub.ErrShuttingDown // no hub has delivered it
	}
	if s.Message.ID == "" {
		s.Message.ID = p.router.hub.NewMessageID()
	}
	others, err := p.publishAndWrite(ctx, s)
	if others == nil {
		return err
	}
	slow := len(others.Insist(ctx))
	p.lost.slow.Add(float64(slow))
	others.Then(func() { p.lost.unknown.Add(float64(others.NotDone() - slow)) })
	if errors.Is(err, hub.ErrShuttingDown) {
		return nil // the peers have it, and the connections here have just been closed
	}
	return err
}

// publishAndWrite puts the message in line for peers first, and does this hub's part. others are
// the peers; nil: there are none. The links of clients write outside the gate of moves.
func (p *publisher) publishAndWrite(
	ctx context.Context, s *hub.Send,
) (others *mesh.Gathering, _ error) {
	began := time.Now()
	if !p.router.moves.EnterCall() {
		return p.publishWhileMoving(s, began)
	}
	b := newBurst()
	defer b.recycleBurst()
	defer b.links.Flush() // also if a protocol panics
	s.Burst = &b.links
	defer func() { s.Burst = nil }()
	return p.publishEverywhere(ctx, s, began)
}

// publishEverywhere does the work of publishAndWrite in the gate, and leaves the gate.
func (p *publisher) publishEverywhere(
	ctx context.Context, s *hub.Send, began time.Time,
) (others *mesh.Gathering, _ error) {
	r := p.router
	defer r.moves.LeaveCall()
	route := r.mesh.RouteFor(s.Message.Namespace, &s.Target)
	p.lost.unreachable.Add(float64(len(route.Unreachable)))
	if len(route.To) > 0 {
		call, err := newPublishCall(s, began)
		if err != nil {
			return nil, err
		}
		others = r.mesh.Forward(call, route.To)
	}
	_, err := r.hub.Deliver(ctx, s)
	return others, err
}

// publishWhileMoving publishes while connections move from this hub or to it.
func (p *publisher) publishWhileMoving(
	s *hub.Send, began time.Time,
) (others *mesh.Gathering, _ error) {
	call, err := newPublishCall(s, began)
	if err != nil {
		return nil, err
	}
	others, route := p.router.moves.Forward(call, s.Message.Namespace, &s.Target)
	p.lost.unreachable.Add(float64(len(route.Unreachable)))
	return others, nil
}

// newPublishCall returns a client's message as a call for peers: a send that waits for nothing. All
// messages of a client take the same lane.
func newPublishCall(s *hub.Send, began time.Time) (*mesh.Call, error) {
	m := s.Message
	message := &controlv1.Message{Id: m.ID, Event: m.Event, Metadata: m.Metadata}
	switch m.Kind {
	case hub.Text:
		message.Payload = &controlv1.Message_Text{Text: textOf(m.Payload)}
	case hub.JSON:
		message.Payload = &controlv1.Message_Json{Json: textOf(m.Payload)}
	case hub.Binary:
		message.Payload = &controlv1.Message_Binary{Binary: m.Payload}
	case hub.Protobuf:
		message.Payload = &controlv1.Message_Protobuf{Protobuf: m.Payload}
	}
	if !m.Expires.IsZero() {
		message.Ttl = durationpb.New(m.Expires.Sub(began))
	}
	b, err := proto.Marshal(&controlv1.SendRequest{
		Namespace: m.Namespace, Target: targetOf(&s.Target), Message: message,
		Wait: controlv1.Wait_WAIT_NONE, WaitTimeout: &durationpb.Duration{},
		OverflowPolicy: policyNames[s.Policy], ConflationKey: s.ConflationKey,
	})
	if err != nil {
		return nil, err
	}
	send := &peerv1.ForwardSend{
		Request: b, TraceParent: m.TraceParent,
		Sender: &peerv1.Sender{Connection: string(m.Sender.Connection), User: m.Sender.User},
	}
	return &mesh.Call{
		Caller: "client:" + string(m.Sender.Connection), Began: began,
		Forward: &peerv1.Forward{Call: &peerv1.Forward_Send{Send: send}},
	}, nil
}

// targetOf is the inverse of form.NewTarget.
func targetOf(t *hub.Target) *controlv1.Target {
	target := &controlv1.Target{
		Connections: t.Connections, Users: t.Users, Groups: t.Groups, Everyone: t.Everyone,
	}
	if e := &t.Except; len(e.Connections)+len(e.Users)+len(e.Groups) > 0 {
		target.Except = &controlv1.Exclusion{
			Connections: e.Connections, Users: e.Users, Groups: e.Groups,
		}
	}
	return target
}

// policyNames is the inverse of policies.
var policyNames = func() map[overflow.Policy]controlv1.OverflowPolicy {
	names := make(map[overflow.Policy]controlv1.OverflowPolicy, len(policies))
	for name, policy := range policies {
		names[policy] = name
	}
	return names
}()

// textOf returns b as a string without a copy. It is the inverse of bytesOf.
func textOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
