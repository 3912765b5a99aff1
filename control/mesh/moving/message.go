package moving

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/mesh/handover"
	"github.com/connhub/connhub/control/mesh/move"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// partBytes is the most bytes of a body in a message (move.proto has a higher limit).
const partBytes = 256 << 10

// ErrBroken: a message of a peer breaks a rule of move.proto.
var ErrBroken = errors.New("broken message of a move")

// nameOf returns a move for a peer, and moveOf is its inverse.
func nameOf(m move.Move) *peerv1.MoveName {
	return &peerv1.MoveName{
		From: string(m.From), Number: m.Number,
		Connection: string(m.Connection), To: string(m.To), Epoch: m.Epoch,
	}
}

func moveOf(n *peerv1.MoveName) move.Move {
	return move.Move{
		ID:         move.ID{From: hub.ID(n.GetFrom()), Number: n.GetNumber()},
		Connection: hub.ConnectionID(n.GetConnection()), To: hub.ID(n.GetTo()),
		Epoch: n.GetEpoch(),
	}
}

// LaneMessage returns the message of a peer on a lane that is not a call: a mark, or settled.
func LaneMessage(kind move.Kind, lane int, name *peerv1.MoveName) move.Message {
	return move.Message{Kind: kind, Lane: lane, Move: moveOf(name)}
}

// Result returns the answer of a peer to a call. body has the call if the peer has not taken it for
// all connections.
func Result(lane int, number uint64, r *peerv1.ForwardResult, body *Body) move.Message {
	m := move.Message{Kind: move.Result, Lane: lane, Number: number}
	for _, name := range r.GetMoved() {
		m.Moved = append(m.Moved, moveOf(name))
	}
	if len(m.Moved) > 0 {
		m.Body = body
	}
	return m
}

// NameOf returns the name of a message's move for a peer.
func NameOf(m *move.Message) *peerv1.MoveName { return nameOf(m.Move) }

// Encode returns the messages for a step, in their order.
func Encode(m *move.Message) ([]*peerv1.MoveMessage, error) {
	body, err := encodeBody(m)
	if err != nil {
		return nil, err
	}
	var all []*peerv1.MoveMessage
	part := func(b []byte) *peerv1.MoveMessage {
		made := &peerv1.MoveMessage{
			Kind: peerv1.MoveKind(m.Kind), Move: nameOf(m.Move), Body: b, More: true,
		}
		all = append(all, made)
		return made
	}
	for ; len(body) > partBytes; body = body[partBytes:] {
		part(body[:partBytes:partBytes])
	}
	last := part(body)
	last.More, last.Complete, last.Final = false, m.Complete, m.IsFinal
	last.Hub = string(m.Hub)
	for _, o := range m.Marked {
		last.Marked = append(last.Marked,
			&peerv1.MoveOrigin{Hub: string(o.Hub), Lane: uint32(o.Lane)}) //nolint:gosec // below 64
	}
	return all, nil
}

func encodeBody(m *move.Message) ([]byte, error) {
	switch body := m.Body.(type) {
	case nil:
		return nil, nil
	case []byte:
		return body, nil
	case *peerv1.TakeProof:
		return proto.Marshal(body)
	default:
		return nil, fmt.Errorf("%w: a body %T", ErrBroken, body)
	}
}

// isRequest reports whether a kind of step is sent by the hub that has dialled the link.
func isRequest(k move.Kind) bool { return k <= move.Over || k == move.Take }

// Assembler puts the messages of a stream together.
type Assembler struct {
	// IsOfRequests says that the messages come from the hub that has dialled the link. It is set
	// before the first Add.
	IsOfRequests bool

	parts []byte
	of    *peerv1.MoveMessage // the first message of the body that goes on; nil: none
}

// Add returns the step that a message ends, or nil if its body goes on. The message has passed the
// rules of its proto. Error: ErrBroken.
func (a *Assembler) Add(p *peerv1.MoveMessage) (*move.Message, error) {
	first := a.of
	if kind := move.Kind(p.GetKind()); a.IsOfRequests != isRequest(kind) || //nolint:gosec // few
		kind.IsOfLane() || p.GetMove() == nil {
		return nil, fmt.Errorf("%w: %v", ErrBroken, p.GetKind())
	}
	if first != nil && first.GetKind() != p.GetKind() ||
		first != nil && !proto.Equal(first.GetMove(), p.GetMove()) {
		return nil, fmt.Errorf("%w: %v follows a part of %v", ErrBroken,
			p.GetKind(), first.GetKind())
	}
	if len(a.parts)+len(p.GetBody()) > handover.MaxBytes {
		return nil, fmt.Errorf("%w: a body above %d bytes", ErrBroken, handover.MaxBytes)
	}
	if p.GetMore() || first != nil {
		a.parts = append(a.parts, p.GetBody()...)
	}
	if p.GetMore() {
		if first == nil {
			a.of = p
		}
		return nil, nil //nolint:nilnil // documented
	}
	body := p.GetBody()
	if first != nil {
		body = a.parts
		*a = Assembler{IsOfRequests: a.IsOfRequests}
	}
	return decodeStep(p, body)
}

func decodeStep(p *peerv1.MoveMessage, body []byte) (*move.Message, error) {
	m := &move.Message{
		Kind: move.Kind(p.GetKind()), Move: moveOf(p.GetMove()), //nolint:gosec // few kinds
		Complete: p.GetComplete(), IsFinal: p.GetFinal(), Hub: hub.ID(p.GetHub()),
	}
	for _, o := range p.GetMarked() {
		m.Marked = append(m.Marked, move.Origin{Hub: hub.ID(o.GetHub()), Lane: int(o.GetLane())})
	}
	switch m.Kind {
	case move.Offer, move.Changes, move.Last:
		m.Body = body
	case move.Released:
		if len(body) > 0 {
			m.Body = body
		}
	case move.Take:
		proof := &peerv1.TakeProof{}
		if err := proto.Unmarshal(body, proof); err != nil {
			return nil, fmt.Errorf("%w: a proof: %w", ErrBroken, err)
		}
		m.Body = proof
	default: // has none
	}
	return m, nil
}
