package mesh

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Problem: a join returns at B, and a send that begins after that at A must reach B, while A leaves out of a send
// those who have nobody. B can't wait until A has heard of the join: A may be stopped, or its link dead in
// a way that only one of them has noticed. A can't ask B before each send.
//
// Invariant: when a change is in force at A by B's reckoning, A has applied it, or does not filter by B's table.
//
// Outline: A filters only with a lease. An answer of B to a probe of A gives it for leaseTime *from the moment A sent
// the probe*, to an A that has applied every change that B had made *when it answered*. Now let v be a change of B.
// A lease without v rests on an answer that B gave before v, so it ends, at A, before B's last answer + leaseTime. So
// B waits for A's confirmation or for that moment, whichever is first: at most leaseTime, whatever A does. Then
// v is in force at A for good, because every later answer is worth nothing to an A without v. Neither the order
// of probes and interest on the wire nor the clocks' offset matter; only that a second is as long at A as at B.
//
// The lease outlives its link: B may notice the end of a link long before A does. What ends it early is A's next
// Hello, since A throws its table away before it dials.
//
// (A simpler rule gives the lease with every answer, and has B stop answering when a confirmation is late. Then
// an answer that overtakes a change gives a lease without it; when B deems a change in force because the lease was
// over, the next answer must come after its confirmation and not just after those that are late; and a
// join waits for the stop and the lease one after the other.)

const (
	// leaseTime is how long A may filter after it sent a probe that B answered, and so the most that a
	// join waits for a peer. Longer makes joins wait longer for a stuck peer, shorter makes slow probes cause floods.
	leaseTime = 500 * time.Millisecond
	// probeInterval is the time between two probes: four may be late or lost to a busy scheduler before the lease ends.
	probeInterval = 100 * time.Millisecond
	// suspectTime is how long a peer may be silent before sends report it without waiting for it.
	suspectTime = 500 * time.Millisecond
	// probesKept is how many probes wait for an answer; what is older could not give a lease.
	probesKept = 8

	// never is after everything.
	never time.Duration = math.MaxInt64
)

// errViolation: a peer broke a rule of the protocol. Its link is ended.
var errViolation = errors.New("peer broke the protocol")

// filter is A's side: what A knows of B on one link, and whether it may leave B out because of it.
type filter struct {
	table    keyset
	complete bool   // no snapshot is on its way
	version  uint64 // B's changes that the table has, when complete
	sequence uint64 // of the last Interest

	probe  uint64 // number of the last one
	answer uint64 // of the last one that was answered
	sentAt [probesKept]time.Duration
	until  time.Duration // the lease

	answeredAt time.Duration // when the last probe was sent that was answered in time; 0: none was
	heard      time.Duration // the last answer, at first the link's start
}

// nextProbe returns the next probe.
func (f *filter) nextProbe(now time.Duration) *peerv1.Probe {
	f.probe++
	f.sentAt[f.probe%probesKept] = now
	return &peerv1.Probe{Number: f.probe}
}

// applyAnswer takes an answer.
func (f *filter) applyAnswer(now time.Duration, a *peerv1.ProbeAnswer) error {
	n := a.GetNumber()
	if n != f.answer+1 || n > f.probe {
		return fmt.Errorf("%w: answer to probe %d after %d, last sent %d", errViolation, n,
			f.answer, f.probe)
	}
	f.answer, f.heard = n, now
	if f.probe-n >= probesKept {
		return nil
	}
	f.answeredAt = f.sentAt[n%probesKept]
	if f.complete && f.version >= a.GetInterestVersion() {
		f.until = max(f.until, f.answeredAt+leaseTime)
	}
	return nil
}

// applyInterest applies an Interest.
func (f *filter) applyInterest(m *peerv1.Interest) error {
	switch {
	case m.GetSequence() != f.sequence+1:
		return fmt.Errorf("%w: interest %d after %d", errViolation, m.GetSequence(), f.sequence)
	case f.sequence == 0 && !m.GetSnapshotStart():
		return fmt.Errorf("%w: interest without a snapshot", errViolation)
	case m.GetVersion() < f.version:
		return fmt.Errorf("%w: interest falls from version %d to %d", errViolation, f.version,
			m.GetVersion())
	case len(m.GetAdded())+len(m.GetRemoved()) > maxHashes:
		return fmt.Errorf("%w: interest with more than %d hashes", errViolation, maxHashes)
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

// wantsAny reports whether B has one of the hashes.
func (f *filter) wantsAny(hashes []Hash) bool {
	return slices.ContainsFunc(hashes, f.table.hasHash)
}

// isSuspect reports whether B has been silent for too long.
func (f *filter) isSuspect(now time.Duration) bool { return now >= f.heard+suspectTime }

// grant is B's side: the lease that A may have at the latest, and who waits for A. There is one for each peer, not for each
// link.
type leaseGrant struct {
	given   bool
	last    time.Duration // the last answer
	inForce uint64        // the changes that are, at A: for good

	waiting []waiter // by until; one behind another of a higher version waits for that
}

// waiter is a call that waits for A to know a change.
type waiter struct {
	join    *waitingJoin
	version uint64
	until   time.Duration
}

// call is a join that has not returned.
type waitingJoin struct {
	id   uint64
	open int // peers that it waits for
}

// answerProbe gives A a lease.
func (g *leaseGrant) answerProbe(now time.Duration, number, version uint64) *peerv1.ProbeAnswer {
	g.given, g.last = true, now
	return &peerv1.ProbeAnswer{Number: number, InterestVersion: version}
}

// leaseOver reports whether A has no lease that rests on an answer given until now.
func (g *leaseGrant) leaseOver(now time.Duration) bool {
	return !g.given || now >= g.last+leaseTime
}

// addWaiter has c wait until a change, which was made by now, is in force at A.
func (g *leaseGrant) addWaiter(now time.Duration, c *waitingJoin, version uint64) {
	if g.leaseOver(now) {
		g.confirmVersion(version)
	}
	if g.inForce >= version {
		return
	}
	c.open++
	g.waiting = append(g.waiting, waiter{c, version, g.last + leaseTime})
}

// confirmVersion notes that A knows a change and those before it, or has no lease without them.
func (g *leaseGrant) confirmVersion(version uint64) { g.inForce = max(g.inForce, version) }

// voidLease ends A's lease: A has begun anew and filters by nothing.
func (g *leaseGrant) voidLease() { g.given = false }

// releaseWaiters returns the calls that wait for nobody any more.
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

// nextDeadline is when release has something to do without a confirmation.
func (g *leaseGrant) nextDeadline() time.Duration {
	if len(g.waiting) == 0 {
		return never
	}
	return g.waiting[0].until
}
