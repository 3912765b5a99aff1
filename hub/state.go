package hub

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/connhub/connhub/hub/cause"
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
	// PhaseDetached: it has lost its link and waits to be resumed.
	PhaseDetached
	// PhaseClosed is final.
	PhaseClosed
)

// Identity is what never changes in a connection.
type Identity struct {
	ID            ConnectionID
	Namespace     string
	User          string
	Protocol      string
	RemoteAddress string
	Created       time.Time
	Claims        *Claims // nil: none
}

// Payer returns the name under which the connection's client has its fair share among users: its user, or
// for clients without a user their address, under a name that no user has. So a token without a user is
// worth one share at an address, however many connections it has there.
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

// State is all that a connection is, apart from its link. It has no lock, clock or I/O of its own: every
// change is an Op that goes through apply, so the stream of a connection's ops rebuilds its State. Moves,
// watches and replication rest on that; a test holds it for every field.
type State struct {
	Sequence uint64 // the sequence id given last; the first is 1
	Written  uint64 // the last one that any link wrote whole, or the client confirmed
	Acked    uint64 // the last one confirmed: by the client, or by the kernel without acks
	Phase    Phase
	stage    transfer.Stage // this hub's part in a move; Live: none is under way
	Epoch    uint32         // how many hubs have held the connection; of the first it is 1
	Outbox   outbox         // ids Acked+1 … Sequence, then what has none yet

	Resumption *Resumption        // nil: it can't be resumed
	Close      *cause.CloseStatus // of PhaseClosed, nil before: 8 bytes while it is open, not 24

	Identity

	Groups []string    // in the order of joining
	Grants *Grants     // nil: none
	Done   *ranges.Set // ids of the client's commands that succeeded; nil: none
	Events uint64      // that the connection has caused: its beginning, what its client emitted, its end
}

// Resumption is what it takes to resume a connection. Immutable: each change is a new one.
type Resumption struct {
	Given      [sha256.Size]byte // hash of the token that the last link was greeted with
	Proven     [sha256.Size]byte // of the one that its client came with, and has if the greeting was lost; zero: none
	DetachedAt time.Time         // of PhaseDetached
}

func (r *Resumption) withDetachedAt(at time.Time) *Resumption {
	return &Resumption{Given: r.Given, Proven: r.Proven, DetachedAt: at}
}

// OpKind says what an Op does.
type OpKind uint8

// The ops. Those with a field name use that field of Op.
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
	OpGrant                      // Grants: what the client may do besides its roles
	OpEvent                      // Event: the client has something for the backends; an event
	OpDone                       // Sequence: the id of a command of the client that succeeded
	OpClose                      // Close: matches nothing any more; its link may still carry what is queued; an event if it ever had one
	OpEnd                        // lets go of what was not written
	OpAdopt                      // State: comes into being, as another hub has handed it over
	OpMove                       // Stage: goes a step in a move to another hub; to Moved with Close

	opEnd
)

// Op is one change of a State. Each delivery is some of them: it should stay small.
type Op struct {
	Kind       OpKind
	Reason     cause.DropReason
	Index      int // in the queue
	Sequence   uint64
	Ordinal    uint64 // of the event that the op is, counted from 1 in its connection; 0: it is none. apply sets it
	Identity   *Identity
	Envelope   *Envelope
	Group      string
	Resumption *Resumption
	Grants     *Grants
	Event      *Event
	Close      cause.CloseStatus
	State      *State         // of OpAdopt
	Stage      transfer.Stage // of OpMove
}

// apply makes one change. The caller has checked that it is allowed; apply only carries it out, and numbers events.
func (s *State) applyOp(op *Op) {
	switch op.Kind {
	case OpAdmit:
		s.Identity, s.Phase, s.Epoch = *op.Identity, PhaseConnecting, 1
	case OpAttach:
		s.applyAttach(op)
	case OpDetach:
		s.Phase, s.Resumption = PhaseDetached, op.Resumption
	case OpJoin:
		s.Groups = append(s.Groups, op.Group)
	case OpLeave:
		i := slices.Index(s.Groups, op.Group)
		s.Groups = slices.Delete(s.Groups, i, i+1)
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
	if s.Phase != PhaseConnecting { // otherwise nobody heard of it
		s.numberEvent(op)
	}
	how := op.Close
	s.Phase, s.Close, s.Groups = PhaseClosed, &how, nil
	s.stage = transfer.Live // a move ends with it
}

// adoptFrom takes all from another state, and shares no memory with it that either changes.
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

// isElsewhere reports whether the connection belongs to another hub, or may.
func (s *State) isElsewhere() bool {
	return s.stage != transfer.Live && s.stage != transfer.Moving
}

// isGone reports whether the connection matches nothing here and must not change.
func (s *State) isGone() bool { return s.Phase == PhaseClosed || s.isElsewhere() }

// isFrozen reports whether a move keeps the link from being read and messages from being written.
func (s *State) isFrozen() bool { return s.stage != transfer.Live }

// refuses returns the error that a new link gets, or nil.
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

// applyClient is apply for what clients do themselves, and may do.
func (s *State) applyClientOp(op *Op) {
	switch op.Kind {
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
