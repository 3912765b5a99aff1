package core

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Problem: a join returns at hub B. A send that begins at hub A afterwards must reach B, while A
// leaves hubs without matching clients out of a send. B can't wait until A knows of the join: A may
// be stopped, or their link may be dead in a way that only a single side has noticed. A can't ask B
// before each send.
//
// Invariant: if a change is in force at A by B's reckoning, then A has applied the change, or A
// does not filter by B's table.
//
// Outline: A filters only with a lease. A gets it by B's answer to a probe. The lease lasts
// LeaseTime *from the moment A sent the probe*, and only an A that has applied every change that B
// had made *when it answered* gets it. Let v be a change of B. A lease without v rests on an answer
// that B gave before v. So that lease ends, at A, before B's latest answer + LeaseTime. B waits for
// A's confirmation or for that moment, whichever is first: at most LeaseTime, even if A hangs. From
// then on v is in force at A for good, because no later answer gives a lease to an A without v.
// Neither the order of probes and interest on the wire nor the clocks' offset matters. Only a
// second must be as long at A as at B.
//
// The lease outlives its link: B may notice the end of a link long before A does. A's next Hello
// ends the lease early, because A throws its table away before it dials.
//
// There is a simpler rule: each answer gives the lease, and B stops answering when a confirmation
// is late. It has three flaws. An answer that overtakes a change gives a lease without the change.
// If B deems a change in force because the lease was over, its next answer must wait for the
// confirmation of that change, and not only for the late ones. And a join waits for the stop and
// then for the lease.

const (
	// LeaseTime is how long A may filter after it sent a probe that B answered. So it is also the
	// most that a join waits for a peer. A longer time makes joins wait longer for a stuck peer. A
	// shorter time lets slow probes cause floods.
	LeaseTime = 500 * time.Millisecond
	// ProbeInterval is the time between two probes. A busy scheduler may delay or lose four of them
	// before the lease ends.
	ProbeInterval = 100 * time.Millisecond
	// SuspectTime is the silence of a peer after which sends report it and don't wait for it.
	SuspectTime = 500 * time.Millisecond
	// probesKept is the number of probes that wait for an answer. Older probes could give no lease.
	probesKept = 8

	// never is later than any time.
	never time.Duration = math.MaxInt64
)

// ErrViolation: the peer broke a rule of the protocol. Its link is ended.
var ErrViolation = errors.New("peer broke the protocol")

// filter is A's side of a link: A's knowledge of B's interest, and whether A may leave B out of
// sends by it.
type filter struct {
	table    keyset
	complete bool   // no snapshot is on its way
	version  uint64 // the changes of B in the table, when complete
	sequence uint64 // of the latest Interest

	probe  uint64 // the number of the latest probe
	answer uint64 // the number of the latest answered probe
	sentAt [probesKept]time.Duration
	until  time.Duration // the end of the lease

	answeredAt time.Duration // when the latest probe that was answered in time was sent; 0: none
	heard      time.Duration // the latest answer, at first the start of the link
}

// nextProbe returns the next probe to send.
func (f *filter) nextProbe(now time.Duration) *peerv1.Probe {
	f.probe++
	f.sentAt[f.probe%probesKept] = now
	return &peerv1.Probe{Number: f.probe}
}

// applyAnswer processes the answer to a probe.
func (f *filter) applyAnswer(now time.Duration, a *peerv1.ProbeAnswer) error {
	n := a.GetNumber()
	if n != f.answer+1 || n > f.probe {
		return fmt.Errorf("%w: answer to probe %d after %d, last sent %d", ErrViolation, n,
			f.answer, f.probe)
	}
	f.answer, f.heard = n, now
	if f.probe-n >= probesKept {
		return nil
	}
	f.answeredAt = f.sentAt[n%probesKept]
	if f.complete && f.version >= a.GetInterestVersion() {
		f.until = max(f.until, f.answeredAt+LeaseTime)
	}
	return nil
}

// applyInterest applies a message of B to the table.
func (f *filter) applyInterest(m *peerv1.Interest) error {
	switch {
	case m.GetSequence() != f.sequence+1:
		return fmt.Errorf("%w: interest %d after %d", ErrViolation, m.GetSequence(), f.sequence)
	case f.sequence == 0 && !m.GetSnapshotStart():
		return fmt.Errorf("%w: interest without a snapshot", ErrViolation)
	case m.GetVersion() < f.version:
		return fmt.Errorf("%w: interest falls from version %d to %d", ErrViolation, f.version,
			m.GetVersion())
	case len(m.GetAdded())+len(m.GetRemoved()) > MaxHashes:
		return fmt.Errorf("%w: interest with more than %d hashes", ErrViolation, MaxHashes)
	}
	f.sequence, f.version = m.GetSequence(), m.GetVersion()
	if m.GetSnapshotStart() {
		f.table, f.complete = keyset{}, false
	}
	for _, h := range m.GetRemoved() {
		f.table.removeHash(Hash(h))
	}
	for _, h := range m.GetAdded() {
		f.table.addHash(Hash(h))
	}
	f.complete = f.complete || m.GetSnapshotEnd()
	return nil
}

// holdsLease reports whether A may filter by the table.
func (f *filter) holdsLease(now time.Duration) bool { return f.complete && now < f.until }

// wantsAny reports whether B has any of the hashes.
func (f *filter) wantsAny(hashes []Hash) bool {
	return slices.ContainsFunc(hashes, f.table.hasHash)
}

// isSuspect reports whether B has been silent for SuspectTime.
func (f *filter) isSuspect(now time.Duration) bool { return now >= f.heard+SuspectTime }

// leaseGrant is B's side: the latest lease that A may have, and the joins that wait for A. There is
// a leaseGrant for each peer, not for each link.
type leaseGrant struct {
	given   bool
	last    time.Duration // the latest answer
	inForce uint64        // changes up to this version are in force at A, for good

	// By until. A waiter behind a waiter of a higher version waits for that version.
	waiting []waiter
}

// waiter is a join that waits until A knows a change.
type waiter struct {
	join    *waitingJoin
	version uint64
	until   time.Duration
}

// waitingJoin is a join that has not returned.
type waitingJoin struct {
	id   uint64
	open int // peers that the join waits for
}

// answerProbe gives A a lease, and returns the answer.
func (g *leaseGrant) answerProbe(now time.Duration, number, version uint64) *peerv1.ProbeAnswer {
	g.given, g.last = true, now
	return &peerv1.ProbeAnswer{Number: number, InterestVersion: version}
}

// leaseOver reports whether no lease from the answers so far can still stand at A.
func (g *leaseGrant) leaseOver(now time.Duration) bool {
	return !g.given || now >= g.last+LeaseTime
}

// addWaiter makes c wait until a change, made before now, is in force at A.
func (g *leaseGrant) addWaiter(now time.Duration, c *waitingJoin, version uint64) {
	if g.leaseOver(now) {
		g.confirmVersion(version)
	}
	if g.inForce >= version {
		return
	}
	c.open++
	g.waiting = append(g.waiting, waiter{c, version, g.last + LeaseTime})
}

// confirmVersion notes that A knows the changes up to version, or has no lease without them.
func (g *leaseGrant) confirmVersion(version uint64) { g.inForce = max(g.inForce, version) }

// voidLease ends A's lease: A has begun anew and filters by no table.
func (g *leaseGrant) voidLease() { g.given = false }

// releaseWaiters returns the joins that wait for no peer any more.
func (g *leaseGrant) releaseWaiters(now time.Duration) (done []*waitingJoin) {
	for len(g.waiting) > 0 {
		w := g.waiting[0]
		if g.given && g.inForce < w.version && now < w.until {
			break
		}
		g.confirmVersion(w.version)
		g.waiting = g.waiting[1:]
		w.join.open--
		if w.join.open == 0 {
			done = append(done, w.join)
		}
	}
	return done
}

// nextDeadline returns when releaseWaiters has work to do without a confirmation.
func (g *leaseGrant) nextDeadline() time.Duration {
	if len(g.waiting) == 0 {
		return never
	}
	return g.waiting[0].until
}
