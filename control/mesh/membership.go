package mesh

import (
	"time"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

const (
	// lostGrace is how long a hub counts as a member after its last link ended, without a key in etcd and without a
	// farewell. It is the time after which a hub may be declared dead (DESIGN §6). A hub that
	// etcd has lost and whose link drops for a moment is redialled and named unreachable, not forgotten.
	lostGrace = 15 * time.Second
	// linkTimeout is how long nothing may come on a link before it is ended.
	linkTimeout = 10 * time.Second
	// dialTimeout is how long a dial may take, Hello and its answer included.
	dialTimeout = 5 * time.Second
	// After a link or a dial ends, the next dial waits redialFirst, and twice as long for each failed one, up to redialMost.
	redialFirst = 100 * time.Millisecond
	redialMost  = 5 * time.Second
)

// PeerState says how this hub stands with another one.
type PeerState uint8

const (
	// PeerListed: a member, but there is no link to it and no dial at the moment.
	PeerListed PeerState = iota + 1
	// PeerDialled: a dial is under way.
	PeerDialled
	// PeerLinked: there is a link to it.
	PeerLinked
	// PeerSuspect: there is a link to it, but no probe was answered for 500 ms.
	PeerSuspect
	// PeerGone: no member any more. What is left is the memory of its epochs.
	PeerGone
)

var peerStateLabels = [...]string{
	PeerListed: "listed", PeerDialled: "dialled", PeerLinked: "linked", PeerSuspect: "suspect",
	PeerGone: "gone",
}

// String is the metric label.
func (s PeerState) String() string { return peerStateLabels[s] }

// dialOutcome is what a dial that came to nothing proves of the hub.
type dialOutcome uint8

const (
	// dialUnproven: nothing; it may be there.
	dialUnproven dialOutcome = iota
	// dialAbsent: it is not at that address, because nobody listens there or another hub does (WRONG_HUB, WRONG_CLUSTER).
	dialAbsent
	// dialFarewell: it holds nothing and never will again (SHUTTING_DOWN).
	dialFarewell
)

// peer is what the core knows of another hub. It lives as long as the hub is a member and lostGrace beyond the last link.
type peer struct {
	id    hub.ID
	hello *peerv1.Hello // the last one, nil before the first

	// Membership.
	listed   bool          // it has a key
	keyed    time.Duration // until when the key that it had makes it a member
	told     time.Duration // until when another hub's word makes it a member
	address  string        // of its key, or else of its hello, or else of that word
	draining bool          // it said that it leaves
	farewell bool          // it said that it holds nothing
	absent   bool          // the last dial found that it is not at its address
	met      bool          // there was a link
	lost     time.Duration
	counted  bool          // it was a member when we last looked
	since    time.Duration // when that began, or sends began to say that etcd is silent
	early    bool          // it began before this hub served backends

	// What this hub knows of how the peer sees it; see verdict.go.
	proven  bool          // there was a link to it
	proof   time.Duration // when the peer had a link with this hub for sure
	contact time.Duration // when something last came from the peer

	// The link that we dial.
	out      *outbound // nil: none
	redial   time.Duration
	failures int
	nudged   bool // it dialled us, and was dialled back at once for that

	// The link that it dials.
	in      *inbound // nil: none
	inEpoch uint64   // the highest seen
	grant   leaseGrant
}

// outbound is a link that this hub dials. All that was learned on it goes with it.
type outbound struct {
	epoch  uint64
	member time.Duration // since when the peer was a member when it was dialled
	since  time.Duration // of the dial, then of the link
	linked bool
	filter filter
	probe  time.Duration // when the next one is due
	silent bool          // for suspectTime, and it was said
}

// inbound is a link that a peer dialled.
type inbound struct {
	epoch  uint64
	since  time.Duration
	heard  time.Duration
	probe  uint64 // number of the last one
	hello  *peerv1.Hello
	used   bool          // the peer has our answer
	feed   *feed         // what it is told
	ending bool          // fenced: its loops may still run, but nobody listens to them
	next   *peerv1.Hello // waits for them to end
}

// isMember reports whether the hub belongs to the cluster as this hub sees it: membership = keys ∪ live links, where a
// link lives on for lostGrace unless the hub said farewell, and that of another hub counts for as long.
func (p *peer) isMember(now time.Duration) bool {
	switch {
	case p.hasLink():
		return true
	case p.farewell:
		return false
	default:
		return p.listed || now < p.membershipEnd()
	}
}

// membershipEnd is when a peer without link and key ceases to be a member.
func (p *peer) membershipEnd() time.Duration {
	at := max(p.told, p.keyed)
	if p.met {
		at = max(at, p.lost+lostGrace)
	}
	return at
}

// isAnnounced reports whether other hubs are told of the peer: of links and keys that there are or were a moment ago, not of the word
// of others. Of keys too, because a new hub may have listed after this one's key went, and before we had a link to it.
func (p *peer) isAnnounced(now time.Duration) bool {
	switch {
	case p.hasLink():
		return !p.farewell
	case p.farewell:
		return false
	default:
		return p.met && now < p.lost+lostGrace || p.listed && !p.absent || now < p.keyed
	}
}

// hasLink reports whether there is a link in either direction.
func (p *peer) hasLink() bool { return p.out != nil && p.out.linked || p.in != nil }

// forgettableAt is from when on nothing is needed of a peer that is no member: no straggler of an old link can come
// any more, and no lease that it has is running.
func (p *peer) forgettableAt() time.Duration {
	at := p.membershipEnd()
	if p.grant.given {
		at = max(at, p.grant.last+leaseTime)
	}
	return at
}

func (p *peer) stateAt(now time.Duration) PeerState {
	switch {
	case p.out != nil && p.out.linked && p.out.filter.isSuspect(now):
		return PeerSuspect
	case p.out != nil && p.out.linked:
		return PeerLinked
	case !p.isMember(now):
		return PeerGone
	case p.out != nil:
		return PeerDialled
	default:
		return PeerListed
	}
}

// noteLinkEnd notes that a link has ended.
func (p *peer) noteLinkEnd(now time.Duration) { p.met, p.lost = true, now }

// delayRedial puts off the next dial.
func (p *peer) delayRedial(now time.Duration) {
	p.redial = now + min(redialFirst<<min(p.failures, 10), redialMost)
}

// commonVersion returns the version of the protocol that two hubs speak with each other; false: there is none.
func commonVersion(a, b *peerv1.Hello) (uint32, bool) {
	highest := min(a.GetProtocolMax(), b.GetProtocolMax())
	return highest, highest > 0 && highest >= a.GetProtocolMin() && highest >= b.GetProtocolMin()
}

// refusalReason returns why a hello that came from a peer is not accepted by us; UNSPECIFIED: it is. Epochs are looked at elsewhere.
func refusalReason(us, h *peerv1.Hello) peerv1.RefusalReason {
	_, versions := commonVersion(us, h)
	self, cluster := us.GetSelf(), us.GetSelf().GetCluster()
	switch {
	case h.GetSelf().GetCluster() != cluster || h.GetExpected().GetCluster() != cluster:
		return peerv1.RefusalReason_REFUSAL_REASON_WRONG_CLUSTER
	case h.GetExpected().GetHub() != self.GetHub() || h.GetSelf().GetHub() == self.GetHub():
		return peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB
	case !versions:
		return peerv1.RefusalReason_REFUSAL_REASON_NO_COMMON_VERSION
	case h.GetSelf().GetHub() == "" || h.GetAddress() == "" || h.GetEpoch() == 0:
		return peerv1.RefusalReason_REFUSAL_REASON_PROTOCOL_VIOLATION
	default:
		return peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED
	}
}
