package handover

import (
	"math"
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/hub/transfer"
)

// MarshalChanges returns changes of a frozen connection as bytes. now is the present time. It
// returns ErrUnfit, also for a change that a frozen connection never does. Op.Ordinal does not
// travel: the new hub numbers events anew, from the same number.
func MarshalChanges(ops []hub.Op, now time.Time) ([]byte, error) {
	m := &peerv1.HandoverChanges{Changes: make([]*peerv1.HandoverChange, 0, len(ops))}
	for i := range ops {
		change, err := encodeChange(&ops[i], now)
		if err != nil {
			return nil, err
		}
		m.Changes = append(m.Changes, change)
	}
	return marshalBody(m)
}

// UnmarshalChanges is the inverse of MarshalChanges, at another hub. Error: ErrBroken.
func UnmarshalChanges(b []byte, now time.Time) ([]hub.Op, error) {
	m := &peerv1.HandoverChanges{}
	if err := unmarshalBody(b, m); err != nil {
		return nil, err
	}
	if len(m.GetChanges()) > transfer.MaxChanges {
		return nil, brokenError("%d changes", len(m.GetChanges()))
	}
	ops := make([]hub.Op, 0, len(m.GetChanges()))
	for _, change := range m.GetChanges() {
		if err := checkKnown(change); err != nil {
			return nil, err
		}
		op, err := decodeChange(change, now)
		if err != nil {
			return nil, err
		}
		ops = append(ops, op)
	}
	return ops, nil
}

func encodeChange(op *hub.Op, now time.Time) (*peerv1.HandoverChange, error) {
	switch op.Kind {
	case hub.OpPush, hub.OpConflate, hub.OpDrop:
		return encodeQueueChange(op, now)
	case hub.OpWritten:
		return &peerv1.HandoverChange{
			Change: &peerv1.HandoverChange_Written{Written: op.Sequence},
		}, nil
	case hub.OpAck:
		return &peerv1.HandoverChange{
			Change: &peerv1.HandoverChange_Acked{Acked: op.Sequence},
		}, nil
	case hub.OpDone:
		return &peerv1.HandoverChange{
			Change: &peerv1.HandoverChange_Done{Done: op.Sequence},
		}, nil
	case hub.OpJoin:
		return &peerv1.HandoverChange{Change: &peerv1.HandoverChange_Join{Join: op.Group}}, nil
	case hub.OpLeave:
		return &peerv1.HandoverChange{Change: &peerv1.HandoverChange_Leave{Leave: op.Group}}, nil
	default:
		return encodeClientChange(op, now)
	}
}

// encodeQueueChange is encodeChange for the queue.
func encodeQueueChange(op *hub.Op, now time.Time) (*peerv1.HandoverChange, error) {
	if op.Index < 0 || op.Index > math.MaxUint32 {
		return nil, unfitError("index %d", op.Index)
	}
	index := uint32(op.Index)
	if op.Kind == hub.OpDrop {
		if op.Reason == 0 || op.Reason >= cause.DropEnd {
			return nil, unfitError("drop for %s", op.Reason)
		}
		drop := &peerv1.HandoverDrop{Index: index, Reason: op.Reason.String()}
		return &peerv1.HandoverChange{Change: &peerv1.HandoverChange_Drop{Drop: drop}}, nil
	}
	message, err := encodeMessage(op.Envelope, now)
	if err != nil {
		return nil, err
	}
	if op.Kind == hub.OpPush {
		return &peerv1.HandoverChange{Change: &peerv1.HandoverChange_Push{Push: message}}, nil
	}
	conflate := &peerv1.HandoverConflation{Index: index, Message: message}
	return &peerv1.HandoverChange{
		Change: &peerv1.HandoverChange_Conflate{Conflate: conflate},
	}, nil
}

// encodeClientChange is encodeChange for the link and the client.
func encodeClientChange(op *hub.Op, now time.Time) (*peerv1.HandoverChange, error) {
	switch {
	case op.Kind == hub.OpDetach && op.Resumption != nil:
		detach := encodeResumption(op.Resumption, now)
		return &peerv1.HandoverChange{Change: &peerv1.HandoverChange_Detach{Detach: detach}}, nil
	case op.Kind == hub.OpGrant:
		grants, err := encodeGrants(op.Grants.List())
		return &peerv1.HandoverChange{Change: &peerv1.HandoverChange_Grants{
			Grants: &peerv1.HandoverGrants{Grants: grants},
		}}, err
	case op.Kind == hub.OpEvent && op.Event != nil:
		kind, ok := payloadKinds.encode(op.Event.Kind)
		if !ok {
			return nil, unfitError("event of kind %d", op.Event.Kind)
		}
		return &peerv1.HandoverChange{Change: &peerv1.HandoverChange_Event{
			Event: &peerv1.HandoverEvent{
				Name: op.Event.Name, Kind: kind, Payload: op.Event.Payload,
			},
		}}, nil
	default:
		return nil, unfitError("change of kind %d", op.Kind)
	}
}

func decodeChange(m *peerv1.HandoverChange, now time.Time) (op hub.Op, err error) {
	switch change := m.GetChange().(type) {
	case *peerv1.HandoverChange_Push:
		op.Kind = hub.OpPush
		op.Envelope, err = decodeMessage(change.Push, now)
	case *peerv1.HandoverChange_Conflate:
		op.Kind, op.Index = hub.OpConflate, int(change.Conflate.GetIndex())
		op.Envelope, err = decodeConflation(change.Conflate, now)
	case *peerv1.HandoverChange_Drop:
		op.Kind, op.Index = hub.OpDrop, int(change.Drop.GetIndex())
		op.Reason, err = decodeDrop(change.Drop)
	case *peerv1.HandoverChange_Written:
		op.Kind, op.Sequence = hub.OpWritten, change.Written
	case *peerv1.HandoverChange_Acked:
		op.Kind, op.Sequence = hub.OpAck, change.Acked
	case *peerv1.HandoverChange_Done:
		op.Kind, op.Sequence = hub.OpDone, change.Done
	case *peerv1.HandoverChange_Join:
		op.Kind, op.Group, err = hub.OpJoin, change.Join, checkGroup(change.Join)
	case *peerv1.HandoverChange_Leave:
		op.Kind, op.Group, err = hub.OpLeave, change.Leave, checkGroup(change.Leave)
	case *peerv1.HandoverChange_Detach:
		op.Kind = hub.OpDetach
		op.Resumption, err = decodeResumption(change.Detach, now)
	case *peerv1.HandoverChange_Grants:
		op.Kind = hub.OpGrant
		op.Grants, err = decodeAllGrants(change.Grants)
	case *peerv1.HandoverChange_Event:
		op.Kind = hub.OpEvent
		op.Event, err = decodeEvent(change.Event)
	default:
		err = brokenError("a change without a kind")
	}
	return op, err
}

func decodeConflation(m *peerv1.HandoverConflation, now time.Time) (*hub.Envelope, error) {
	if err := checkKnown(m); err != nil {
		return nil, err
	}
	return decodeMessage(m.GetMessage(), now)
}

func decodeDrop(m *peerv1.HandoverDrop) (cause.DropReason, error) {
	for _, reason := range cause.DropReasons() {
		if reason.String() == m.GetReason() {
			return reason, checkKnown(m)
		}
	}
	return 0, brokenError("drop for %q", m.GetReason())
}

func decodeAllGrants(m *peerv1.HandoverGrants) (*permission.Grants, error) {
	if err := checkKnown(m); err != nil {
		return nil, err
	}
	grants, err := decodeGrants(m.GetGrants())
	return permission.GrantsOf(grants), err
}

func decodeEvent(m *peerv1.HandoverEvent) (*hub.ClientEvent, error) {
	kind, err := decodePayloadKind(m.GetKind(), m.GetPayload())
	if err != nil {
		return nil, err
	}
	return &hub.ClientEvent{Name: m.GetName(), Kind: kind, Payload: m.GetPayload()}, checkKnown(m)
}
