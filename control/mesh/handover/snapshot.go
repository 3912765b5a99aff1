package handover

import (
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/internal/names"
	"github.com/connhub/connhub/internal/ranges"
)

// MarshalSnapshot returns a connection as bytes. now is the present time. Error: ErrUnfit.
func MarshalSnapshot(s *hub.Snapshot, now time.Time) ([]byte, error) {
	if s.Phase != hub.PhaseAttached && s.Phase != hub.PhaseDetached {
		return nil, unfitError("phase %d", s.Phase)
	}
	claims, err := encodeClaims(s.Claims, now)
	if err != nil {
		return nil, err
	}
	grants, err := encodeGrants(s.Grants)
	if err != nil {
		return nil, err
	}
	m := &peerv1.HandoverSnapshot{
		Connection: string(s.ID), Namespace: s.Namespace, User: s.User, Protocol: s.Protocol,
		RemoteAddress: s.RemoteAddress, Created: encodeDate(s.Created), Claims: claims,
		Epoch: s.Epoch, Attached: s.Phase == hub.PhaseAttached,
		Sequence: s.Sequence, Written: s.Written, Acked: s.Acked,
		Resumption: encodeResumption(&s.Resumption, now), Groups: s.Groups, Grants: grants,
		Events: s.Events,
	}
	for i := range s.Undelivered {
		message, err := encodeMessage(&s.Undelivered[i], now)
		if err != nil {
			return nil, err
		}
		m.Undelivered = append(m.Undelivered, message)
	}
	for _, span := range s.Done {
		m.Done = append(m.Done, &peerv1.HandoverSpan{First: span.First, Last: span.Last})
	}
	return marshalBody(m)
}

// UnmarshalSnapshot is the inverse of MarshalSnapshot, at another hub. restore makes the client's
// claims. Error: ErrBroken.
func UnmarshalSnapshot(b []byte, now time.Time, restore RestoreClaims) (*hub.Snapshot, error) {
	m := &peerv1.HandoverSnapshot{}
	if err := unmarshalBody(b, m); err != nil {
		return nil, err
	}
	identity, err := decodeIdentity(m, now, restore)
	if err != nil {
		return nil, err
	}
	resumption, err := decodeResumption(m.GetResumption(), now)
	if err != nil {
		return nil, err
	}
	grants, err := decodeGrants(m.GetGrants())
	if err != nil {
		return nil, err
	}
	done, err := decodeSpans(m.GetDone())
	if err != nil {
		return nil, err
	}
	s := &hub.Snapshot{
		Identity: *identity, Epoch: m.GetEpoch(), Phase: hub.PhaseDetached,
		Sequence: m.GetSequence(), Written: m.GetWritten(), Acked: m.GetAcked(),
		Resumption: *resumption, Groups: m.GetGroups(), Grants: grants, Done: done,
		Events: m.GetEvents(),
	}
	if m.GetAttached() {
		s.Phase = hub.PhaseAttached
	}
	for _, message := range m.GetUndelivered() {
		e, err := decodeMessage(message, now)
		if err != nil {
			return nil, err
		}
		if e.Message.Namespace == s.Namespace {
			e.Message.Namespace = s.Namespace // the same memory for all
		}
		s.Undelivered = append(s.Undelivered, *e)
	}
	return s, nil
}

// decodeIdentity decodes and checks the facts that never change, and checks the groups.
func decodeIdentity(
	m *peerv1.HandoverSnapshot, now time.Time, restore RestoreClaims,
) (*hub.Identity, error) {
	id, _, err := hub.ParseConnectionID(m.GetConnection())
	switch {
	case err != nil:
		return nil, brokenError("%v", err)
	case !names.IsNamespace(m.GetNamespace()):
		return nil, brokenError("namespace %q", m.GetNamespace())
	case m.GetUser() != "" && names.Check(m.GetUser()) != nil:
		return nil, brokenError("user %q", m.GetUser())
	case len(m.GetGroups()) > hub.MaxGroups:
		return nil, brokenError("%d groups", len(m.GetGroups()))
	case len(names.Distinct(m.GetGroups())) < len(m.GetGroups()):
		return nil, brokenError("a group is there twice")
	}
	for _, group := range m.GetGroups() {
		if err := checkGroup(group); err != nil {
			return nil, err
		}
	}
	created, err := decodeDate(m.GetCreated())
	if err != nil {
		return nil, err
	}
	claims, err := decodeClaims(m.GetClaims(), now, restore)
	if err != nil {
		return nil, err
	}
	return &hub.Identity{
		ID: id, Namespace: m.GetNamespace(), User: m.GetUser(), Protocol: m.GetProtocol(),
		RemoteAddress: m.GetRemoteAddress(), Created: created, Claims: claims,
	}, nil
}

func checkGroup(group string) error {
	if err := names.Check(group); err != nil {
		return brokenError("group: %v", err)
	}
	return nil
}

func encodeResumption(r *hub.Resumption, now time.Time) *peerv1.HandoverResumption {
	m := &peerv1.HandoverResumption{
		Given: r.Given[:], Key: r.Key[:], DetachedFor: encodeSince(r.DetachedAt, now),
	}
	if r.Proven != [len(r.Proven)]byte{} {
		m.Proven = r.Proven[:]
	}
	return m
}

func decodeResumption(m *peerv1.HandoverResumption, now time.Time) (*hub.Resumption, error) {
	made := &hub.Resumption{}
	if len(m.GetGiven()) != len(made.Given) ||
		len(m.GetProven()) != 0 && len(m.GetProven()) != len(made.Proven) {
		return nil, brokenError("hashes of tokens are not of 32 bytes")
	}
	if len(m.GetKey()) != len(made.Key) {
		return nil, brokenError("the key of tokens is not of 16 bytes")
	}
	if err := checkKnown(m); err != nil {
		return nil, err
	}
	copy(made.Given[:], m.GetGiven())
	copy(made.Proven[:], m.GetProven())
	copy(made.Key[:], m.GetKey())
	var err error
	made.DetachedAt, err = decodeSince(m.GetDetachedFor(), now)
	return made, err
}

//nolint:gochecknoglobals // a table
var actions = pairs[peerv1.HandoverAction, permission.Action]{
	{peerv1.HandoverAction_HANDOVER_ACTION_JOIN_GROUP, permission.JoinGroup},
	{peerv1.HandoverAction_HANDOVER_ACTION_SEND_TO_GROUP, permission.SendToGroup},
}

func encodeGrants(grants []permission.Grant) ([]*peerv1.HandoverGrant, error) {
	all := make([]*peerv1.HandoverGrant, 0, len(grants))
	for _, g := range grants {
		action, ok := actions.encode(g.Action)
		if !ok {
			return nil, unfitError("action %d", g.Action)
		}
		all = append(all, &peerv1.HandoverGrant{
			Action: action, Group: g.Group, Revoked: g.Revoked,
		})
	}
	return all, nil
}

func decodeGrants(all []*peerv1.HandoverGrant) ([]permission.Grant, error) {
	if len(all) > permission.MaxGrants {
		return nil, brokenError("%d grants", len(all))
	}
	grants := make([]permission.Grant, 0, len(all))
	for _, m := range all {
		action, ok := actions.decode(m.GetAction())
		if !ok {
			return nil, brokenError("action %d", m.GetAction())
		}
		if err := checkKnown(m); err != nil {
			return nil, err
		}
		if m.GetGroup() != "" {
			if err := checkGroup(m.GetGroup()); err != nil {
				return nil, err
			}
		}
		allowed := permission.Permission{Action: action, Group: m.GetGroup()}
		grants = append(grants, permission.Grant{Permission: allowed, Revoked: m.GetRevoked()})
	}
	return grants, nil
}

// decodeSpans decodes ids of commands. A set of spans that overlap would not find its numbers.
func decodeSpans(all []*peerv1.HandoverSpan) ([]ranges.Span, error) {
	if len(all) > ranges.MaxSpans {
		return nil, brokenError("%d spans", len(all))
	}
	spans := make([]ranges.Span, 0, len(all))
	for i, m := range all {
		if err := checkKnown(m); err != nil {
			return nil, err
		}
		span := ranges.Span{First: m.GetFirst(), Last: m.GetLast()}
		if span.First > span.Last ||
			i > 0 && (span.First == 0 || span.First-1 <= spans[i-1].Last) {
			return nil, brokenError("spans are not in order")
		}
		spans = append(spans, span)
	}
	return spans, nil
}
