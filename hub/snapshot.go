package hub

import (
	"slices"

	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/internal/ranges"
)

// Snapshot is the part of a connection that moves to a different hub: its State as plain values.
// Messages and claims are shared with the connection, and immutable.
type Snapshot struct {
	// Identity has the protocol's name with its variant: the new hub must write the same bytes.
	Identity

	// Epoch counts the hubs that have held the connection, the old hub included.
	Epoch uint32
	// Phase is PhaseAttached or PhaseDetached.
	Phase Phase

	// Sequence is the sequence id given last, Written the last that any link wrote whole, and Acked
	// the last that the client confirmed.
	Sequence, Written, Acked uint64
	// Undelivered are the messages with the sequence ids Acked+1 … Sequence, and then those that
	// have none yet. Each has the exported fields only.
	Undelivered []Envelope

	// Resumption holds the hashes of the tokens that the client may show.
	Resumption Resumption
	// Groups are in the order of joining.
	Groups []string
	// Grants are in the order in which they count.
	Grants []permission.Grant
	// Done are the ids of the client's commands that succeeded.
	Done []ranges.Span
	// Events counts the events that the connection has caused.
	Events uint64
}

func newSnapshot(s *State, speaks Protocol) *Snapshot {
	made := &Snapshot{
		Identity: s.Identity, Epoch: s.Epoch, Phase: s.Phase,
		Sequence: s.Sequence, Written: s.Written, Acked: s.Acked,
		Resumption: *s.Resumption, Groups: slices.Clone(s.Groups),
		Grants: s.Grants.List(), Done: s.Done.Spans(), Events: s.Events,
	}
	made.Protocol = variantName(speaks)
	for _, e := range s.Outbox.liveEntries() {
		made.Undelivered = append(made.Undelivered,
			Envelope{Message: e.Message, Route: e.Route, ConflationKey: e.ConflationKey})
	}
	return made
}

// isWhole reports whether the snapshot is consistent wherever the outbox relies on it.
func (s *Snapshot) isWhole() bool {
	return s.Acked <= s.Written && s.Written <= s.Sequence &&
		s.Sequence-s.Acked <= uint64(len(s.Undelivered)) && len(s.Groups) <= MaxGroups &&
		len(s.Grants) <= permission.MaxGrants && len(s.Done) <= ranges.MaxSpans &&
		(s.Phase == PhaseAttached || s.Phase == PhaseDetached)
}

// restoreState returns the state of which s is the snapshot, at another hub. Its messages take no
// part in the budgets of ns yet: bytes is for the caller to count.
func (s *Snapshot) restoreState(ns *namespace, speaks *dialect) (made *State, bytes int64) {
	resumption := s.Resumption
	made = &State{
		Identity: s.Identity, Epoch: s.Epoch, Phase: s.Phase,
		Sequence: s.Sequence, Written: s.Written, Acked: s.Acked,
		Resumption: &resumption, Groups: slices.Clone(s.Groups), Events: s.Events,
	}
	made.Namespace, made.Protocol = ns.name, speaks.Name()
	for i := range s.Undelivered {
		e := restoreEnvelope(ns, speaks, &s.Undelivered[i])
		bytes += e.tally.kept.Load()
		made.Outbox.pushEnvelope(e)
	}
	for range s.Sequence - s.Acked {
		made.Outbox.numberFirst()
	}
	for _, e := range made.Outbox.liveEntries()[:s.Written-s.Acked] {
		e.tally.countWrite(true)
	}
	made.Grants = permission.GrantsOf(s.Grants)
	if len(s.Done) > 0 {
		made.Done = ranges.Of(s.Done)
	}
	return made, bytes
}

// restoreEnvelope returns the message e encoded anew, for a single connection. tally.kept is its
// part in the budgets, for the caller to count.
func restoreEnvelope(ns *namespace, speaks *dialect, e *Envelope) *Envelope {
	made := &Envelope{Message: e.Message, Route: e.Route, ConflationKey: e.ConflationKey}
	made.shared = speaks.Encode(e.Message, e.Route)
	made.tally = &tally{messageID: e.Message.ID, matched: 1, keeper: ns}
	made.tally.kept.Store(messageWeight(e.Message) + int64(len(made.shared)))
	return made
}
