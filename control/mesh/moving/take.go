package moving

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/connhub/connhub/control/mesh/move"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// ErrUnavailable: a client can't have its connection now, and may ask again. The hub that has the
// connection does not answer, or the connection is in doubt, or on the move to a different hub.
var ErrUnavailable = errors.New("the connection is at a hub that can't give it away now")

// taking is a connection that clients of this hub wait for.
//
// Anybody may ask for it with any proof. So a take is for the clients with the same proof alone,
// and the next take follows it.
type taking struct {
	isUnderWay bool
	isSure     bool      // the hub that was asked knows whether there is such a connection
	proof      proof     // of the take that is under way
	waiters    []*waiter // in the order in which they came
}

// proof is the right that a client shows.
type proof struct {
	namespace string
	hash      [sha256.Size]byte
}

func (p *proof) asMessage() *peerv1.TakeProof {
	return &peerv1.TakeProof{Namespace: p.namespace, Proof: p.hash[:]}
}

// takes are the connections that clients of this hub wait for, and those that clients of peers have
// asked this hub for. They change within Shell.Do.
type takes struct {
	shell *Shell // static
	byID  map[hub.ConnectionID]*taking

	// given are the moves from this hub that clients of peers have begun. looks are the questions
	// that wait for room among them.
	given     map[move.ID]struct{}
	isLooking bool // a move that begins now is one of given
	looks     []lateLook
}

const (
	// mostGiven is the most moves that clients of peers may have under way from a hub. Each holds a
	// copy of the connection's messages until its peer has read it.
	mostGiven = 16
	// mostLooks is the most questions that wait.
	mostLooks = 4096
)

// lateLook is a question that waits.
type lateLook struct {
	move.Look

	until time.Duration // when the client waits no longer
}

// waiter is a client that waits.
type waiter struct {
	proof   proof
	outcome chan error // has room for it
}

// Take fetches a client's connection that a different hub holds. It returns nil when the connection
// is at this hub, or may be: hub.Hub.Resume checks the token. Other errors than these are that of
// ctx: hub.ErrResumeRefused: the client can't have the connection back; ErrUnavailable.
func (s *Shell) Take(
	ctx context.Context, namespace string, id hub.ConnectionID, token string,
) error {
	if s.hub == nil {
		return hub.ErrResumeRefused
	}
	w := &waiter{
		proof:   proof{namespace, sha256.Sum256([]byte(token))},
		outcome: make(chan error, 1),
	}
	s.Do(func() { s.takes.addWaiter(id, w) })
	select {
	case err := <-w.outcome:
		return err
	case <-ctx.Done():
		s.Do(func() { s.takes.removeWaiter(id, w) })
		return ctx.Err()
	}
}

func (all *takes) addWaiter(id hub.ConnectionID, w *waiter) {
	if all.shell.running.Err() != nil {
		w.outcome <- ErrUnavailable
		return
	}
	t := all.byID[id]
	if t == nil {
		t = &taking{}
		all.byID[id] = t
	}
	if t.waiters = append(t.waiters, w); !t.isUnderWay {
		all.beginTake(id)
	}
}

// removeWaiter forgets a client that has gone. Its take goes on: the connection may be on its way.
func (all *takes) removeWaiter(id hub.ConnectionID, w *waiter) {
	if t := all.byID[id]; t != nil {
		t.waiters = slices.DeleteFunc(t.waiters, func(x *waiter) bool { return x == w })
		if len(t.waiters) == 0 && !t.isUnderWay {
			delete(all.byID, id)
		}
	}
}

// beginTake asks for a connection with the proof of the first client.
func (all *takes) beginTake(id hub.ConnectionID) {
	t := all.byID[id]
	t.isUnderWay, t.proof = true, t.waiters[0].proof
	here, _, _ := all.shell.hub.Moves().Standing(id, t.proof.namespace, t.proof.hash)
	if here {
		all.finishTake(id, nil)
		return
	}
	var at hub.ID
	at, t.isSure = all.shell.config.Links.Holder(t.proof.namespace, id)
	if at == "" {
		all.refuseTake(move.Refuse{Connection: id, IsFinal: true})
		return
	}
	all.shell.metrics.takes.Inc()
	all.shell.Handle(func(c *move.Core, now time.Duration) []move.Effect {
		return c.StartTake(now, id, at, t.proof.asMessage())
	})
}

// finishTake ends the wait of all clients for a connection.
func (all *takes) finishTake(id hub.ConnectionID, outcome error) {
	t := all.byID[id]
	if t == nil {
		return
	}
	delete(all.byID, id)
	for _, w := range t.waiters {
		w.outcome <- outcome
	}
}

// refuseTake ends the wait of the clients with the proof that was refused. The next begin.
func (all *takes) refuseTake(e move.Refuse) {
	t := all.byID[e.Connection]
	if t == nil {
		return
	}
	outcome := ErrUnavailable
	if e.IsSearched {
		t.isSure = all.shell.config.Links.IsWhole()
	}
	if e.IsFinal && t.isSure {
		outcome = hub.ErrResumeRefused
	}
	t.waiters = slices.DeleteFunc(t.waiters, func(w *waiter) bool {
		if w.proof != t.proof {
			return false
		}
		w.outcome <- outcome
		return true
	})
	if t.isUnderWay = false; len(t.waiters) == 0 {
		delete(all.byID, e.Connection)
		return
	}
	all.shell.doLater(func() { // not in the middle of an input
		if all.byID[e.Connection] == t && !t.isUnderWay && len(t.waiters) > 0 {
			all.beginTake(e.Connection)
		}
	})
}

// endTakes ends all waits: this hub leaves.
func (all *takes) endTakes() {
	for id := range all.byID {
		all.finishTake(id, ErrUnavailable)
	}
}

// lookWhenRoom looks for a connection that a client of a peer asks for, once few enough connections
// are on the way to clients.
func (all *takes) lookWhenRoom(look move.Look) {
	s := all.shell
	switch {
	case len(all.given) < mostGiven:
		all.lookFor(look)
	case len(all.looks) < mostLooks:
		all.looks = append(all.looks, lateLook{look, s.config.Now() + move.TakeTime})
	default: // the client may ask again
		busy := move.Standing{IsBusy: true}
		s.performAll(s.core.HandleStanding(s.config.Now(), look, busy))
	}
}

// lookAgain makes use of room among the moves.
func (all *takes) lookAgain() {
	all.shell.Handle(func(_ *move.Core, now time.Duration) []move.Effect {
		for len(all.looks) > 0 && len(all.given) < mostGiven {
			next := all.looks[0]
			if all.looks = all.looks[1:]; next.until > now {
				all.lookFor(next.Look)
			}
		}
		return nil // lookFor carries them out
	})
}

// lookFor looks for a connection that a client of a peer asks for.
func (all *takes) lookFor(look move.Look) {
	all.isLooking = true
	defer func() { all.isLooking = false }()
	var standing move.Standing
	p, ok := look.Proof.(*peerv1.TakeProof)
	if ok && all.shell.hub != nil {
		var hash [sha256.Size]byte
		copy(hash[:], p.GetProof())
		standing.IsHere, standing.IsProven, standing.At = all.shell.hub.Moves().Standing(
			look.Connection, p.GetNamespace(), hash)
		if !all.shell.config.Links.CanMove() { // then no connection moves to a client
			standing.IsHere, standing.At = false, ""
		}
	}
	all.shell.performAll(all.shell.core.HandleStanding(all.shell.config.Now(), look, standing))
}
