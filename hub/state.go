package hub

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/hub/transfer"
	"github.com/connhub/connhub/internal/ranges"
)

// Phase is where a connection is in its life: connecting → attached ⇄ detached → closed.
type Phase uint8

const (
	// PhaseConnecting: registered, its handshake is not finished. It can be sent to.
	PhaseConnecting Phase = iota + 1
	// PhaseAttached: it has a link.
	PhaseAttached
	// PhaseDetached: it has lost its link and waits for its client.
	PhaseDetached
	// PhaseClosed is final.
	PhaseClosed
)

// Identity holds the facts of a connection that never change.
type Identity struct {
	// ID is the connection's id.
	ID ConnectionID
	// Namespace is where the connection belongs.
	Namespace string
	// User is empty for an anonymous client.
	User string
	// Protocol is the protocol's name.
	Protocol string
	// RemoteAddress is that of the client at Attach, host:port.
	RemoteAddress string
	// Created is the time of Attach.
	Created time.Time
	// Claims is nil if nothing else is known of the client.
	Claims *Claims
}

// Payer returns the name that has the client's fair share among users: its user or, for a client
// without a user, its address under a name that no user has. So all tokens without a user have one
// share at an address, however many connections they have there.
func (i *Identity) Payer() string { return payerOf(i.User, i.RemoteAddress) }

func payerOf(user, remoteAddress string) string {
	if user != "" {
		return user
	}
	return "\x00" + hostOf(remoteAddress)
}

// hostOf returns an address without its port.
func hostOf(address string) string {
	if i := strings.LastIndexByte(address, ':'); i >= 0 {
		return address[:i]
	}
	return address
}

// State is the whole of a connection, apart from its link. It has no lock, clock or I/O of its own.
// Every change is an Op that goes through applyOp, so the stream of a connection's ops rebuilds its
// State. Moves, watches and replication rely on that; a test holds it for every field.
type State struct {
	// Sequence is the sequence id given last; the first is 1. Written is the last that any link
	// wrote whole, or the client confirmed. Acked is the last that is confirmed: by the client, or
	// without acks by the kernel.
	Sequence, Written, Acked uint64
	// Phase is where the connection is in its life.
	Phase Phase
	// stage is this hub's part in a move; Live: none is under way.
	stage transfer.Stage
	// Epoch counts the hubs that have held the connection, from 1.
	Epoch uint32
	// Outbox holds the messages with the ids Acked+1 … Sequence, and then those that have none yet.
	Outbox outbox

	// Resumption is nil if the connection can't be resumed.
	Resumption *Resumption
	// Close is set in PhaseClosed. As a pointer it takes 8 bytes of an open connection, not 24.
	Close *cause.CloseStatus

	Identity

	// Groups are in the order of joining.
	Groups []string
	// Grants is nil if there are none.
	Grants *permission.Grants
	// Done are the ids of the client's commands that succeeded; nil: none.
	Done *ranges.Set
	// Events counts the events that the connection has caused: its beginning, those that its client
	// emitted, its end.
	Events uint64
}

// Resumption is needed to resume a connection. Immutable: each change is a new value.
type Resumption struct {
	// Given is the hash of the token with which the last link was greeted.
	Given [sha256.Size]byte
	// Proven is the hash of the token that the last link's client showed. The client still has that
	// token if the greeting was lost; zero: none.
	Proven [sha256.Size]byte
	// Key makes the next token from the token that the client shows. So each link whose client
	// shows the same token is greeted with the same token.
	Key [resumeKeyBytes]byte
	// DetachedAt is the start of PhaseDetached.
	DetachedAt time.Time
}

func (r *Resumption) withDetachedAt(at time.Time) *Resumption {
	changed := *r
	changed.DetachedAt = at
	return &changed
}

// OpKind is the kind of an Op.
type OpKind uint8

// The ops. A comment that begins with names of fields says that the op uses those fields of Op.
const (
	OpAdmit    OpKind = iota + 1 // Identity: comes into being
	OpAttach                     // Resumption, or nil: gets a link; its first is an event
	OpDetach                     // Resumption: loses its link, waits
	OpJoin                       // Group
	OpLeave                      // Group
	OpPush                       // Envelope: to the end of the queue
	OpConflate                   // Envelope, Index: in place of a queued message
	OpDrop                       // Index, Reason: out of the queue
	OpNumber                     // the head of the queue gets the next sequence id
	OpWritten                    // Sequence: written up to it
	OpAck                        // Sequence: confirmed up to it, and so written
	OpGrant                      // Grants: permissions of the client besides its roles
	OpEvent                      // Event: the client has something for the backends; an event
	OpDone                       // Sequence: the id of a command of the client that succeeded
	// OpClose uses Close. The connection matches nothing any more. Its link may still carry queued
	// messages. It is an event if the connection ever had a link.
	OpClose
	// OpEnd drops the messages that were not written.
	OpEnd
	// OpAdopt uses State: it comes into being, as a different hub has handed it over.
	OpAdopt
	// OpMove uses Stage: it goes a step in a move to a different hub; to Moved with Close.
	OpMove

	opEnd
)

// Op is one change of a State. Each delivery is some of them, so Op should stay small.
type Op struct {
	// Kind says which of the fields below are set.
	Kind OpKind
	// Reason is that of OpDrop.
	Reason cause.DropReason
	// Index is a place in the queue.
	Index int
	// Sequence is a sequence id, or the id of a command for OpDone.
	Sequence uint64
	// Ordinal numbers the event that the op is, from 1 in its connection; 0: it is no event.
	// applyOp sets it.
	Ordinal uint64
	// Identity is that of OpAdmit.
	Identity *Identity
	// Envelope is the message that goes into the queue.
	Envelope *Envelope
	// Group is that of OpJoin or OpLeave.
	Group string
	// Resumption is the new value, of OpAttach and OpDetach.
	Resumption *Resumption
	// Grants is the new value, of OpGrant.
	Grants *permission.Grants
	// Event is that of OpEvent.
	Event *ClientEvent
	// Close is that of OpClose, and of OpMove to Moved.
	Close cause.CloseStatus
	// State is that of OpAdopt.
	State *State
	// Stage is that of OpMove.
	Stage transfer.Stage
}

// applyOp makes one change, and numbers events. The caller has checked that the change is allowed.
func (s *State) applyOp(op *Op) {
	switch op.Kind {
	case OpAdmit:
		s.Identity, s.Phase, s.Epoch = *op.Identity, PhaseConnecting, 1
	case OpAttach:
		s.applyAttach(op)
	case OpDetach:
		s.Phase, s.Resumption = PhaseDetached, op.Resumption
	case OpPush:
		s.Outbox.pushEnvelope(op.Envelope)
	case OpConflate:
		s.Outbox.replaceQueued(op.Index, op.Envelope)
	case OpDrop:
		s.Outbox.removeQueued(op.Index)
	case OpNumber:
		s.Sequence++
		s.Outbox.numberFirst()
	case OpWritten:
		s.Written = op.Sequence
	case OpAck:
		s.Outbox.releaseTail(int(op.Sequence - s.Acked))
		s.Acked, s.Written = op.Sequence, max(s.Written, op.Sequence)
	case OpClose:
		s.applyClose(op)
	case OpEnd:
		s.Outbox.clearAll()
	case OpAdopt:
		s.adoptFrom(op.State)
	case OpMove:
		s.changeStage(op)
	default:
		s.applyClientOp(op)
	}
}

func (s *State) applyAttach(op *Op) {
	if s.Phase == PhaseConnecting {
		s.numberEvent(op)
	}
	s.Phase, s.Resumption = PhaseAttached, op.Resumption
}

func (s *State) applyClose(op *Op) {
	// If it never had a link, no backend has heard of it.
	if s.Phase != PhaseConnecting {
		s.numberEvent(op)
	}
	how := op.Close
	s.Phase, s.Close, s.Groups = PhaseClosed, &how, nil
	s.stage = transfer.Live // a move ends with it
}

// adoptFrom copies the fields of a different state. Later changes of either do not reach the copy.
func (s *State) adoptFrom(from *State) {
	*s = *from
	s.Outbox.entries = append(make([]*Envelope, 0, from.Outbox.len()), from.Outbox.liveEntries()...)
	s.Outbox.head = 0
	s.Groups = slices.Clone(from.Groups)
	if from.Done != nil {
		s.Done = ranges.Of(from.Done.Spans())
	}
}

// changeStage goes a step in a move. A connection that has moved is closed here, without an event.
func (s *State) changeStage(op *Op) {
	if s.stage = op.Stage; s.stage == transfer.Moved {
		how := op.Close
		s.Phase, s.Close, s.Groups = PhaseClosed, &how, nil
		s.Outbox.clearAll()
	}
}

// isElsewhere reports whether the connection belongs to a different hub, or may.
func (s *State) isElsewhere() bool {
	return s.stage != transfer.Live && s.stage != transfer.Moving
}

// isGone reports whether the connection matches nothing here and must not change.
func (s *State) isGone() bool { return s.Phase == PhaseClosed || s.isElsewhere() }

// isFrozen reports whether a move keeps the link from being read and messages from being written.
func (s *State) isFrozen() bool { return s.stage != transfer.Live }

// bindError returns the error that a new link gets, or nil.
func (s *State) bindError() error {
	switch {
	case s.Phase == PhaseClosed:
		return ErrClosed
	case s.isFrozen():
		return transfer.ErrMoving
	default:
		return nil
	}
}

func (s *State) numberEvent(op *Op) {
	s.Events++
	op.Ordinal = s.Events
}

// applyClientOp is applyOp for the actions of clients, also if backends take them.
func (s *State) applyClientOp(op *Op) {
	switch op.Kind {
	case OpJoin:
		s.Groups = append(s.Groups, op.Group)
	case OpLeave:
		i := slices.Index(s.Groups, op.Group)
		s.Groups = slices.Delete(s.Groups, i, i+1)
	case OpGrant:
		s.Grants = op.Grants
	case OpEvent:
		s.numberEvent(op)
	case OpDone:
		if s.Done == nil {
			s.Done = &ranges.Set{}
		}
		s.Done.Add(op.Sequence)
	default:
		panic(fmt.Sprintf("hub: unknown op %d", op.Kind))
	}
}
