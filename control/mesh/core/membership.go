package core

import (
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

const (
	// LostGrace is how long a hub stays a member after its last link ended, without a key in etcd
	// and without a farewell. After that time a hub may be declared dead (DESIGN §6). A hub that
	// etcd has lost and whose link drops for a moment is redialled and reported unreachable, not
	// forgotten.
	LostGrace = 15 * time.Second
	// LinkTimeout is the longest silence on a link. After it the link is ended.
	LinkTimeout = 10 * time.Second
	// DialTimeout is the most time for a dial, including the Hello and its answer.
	DialTimeout = 5 * time.Second
	// RedialFirst is the wait for the next dial after a link or a dial has ended. The wait doubles
	// with each failure.
	RedialFirst = 100 * time.Millisecond
	// RedialMost is the longest wait for the next dial.
	RedialMost = 5 * time.Second
)

// PeerState is the state of a peer as this hub sees it.
type PeerState uint8

const (
	// PeerListed: a member without a link, and no dial is under way.
	PeerListed PeerState = iota + 1
	// PeerDialled: a dial is under way.
	PeerDialled
	// PeerLinked: this hub has a link to it.
	PeerLinked
	// PeerSuspect: this hub has a link to it, but no probe was answered for 500 ms.
	PeerSuspect
	// PeerGone: no longer a member. The peer is kept for the epochs of its links.
	PeerGone
)

var peerStateLabels = [...]string{
	PeerListed: "listed", PeerDialled: "dialled", PeerLinked: "linked", PeerSuspect: "suspect",
	PeerGone: "gone",
}

// String returns the metric label.
func (s PeerState) String() string { return peerStateLabels[s] }

// DialOutcome is the conclusion about a hub from a failed dial.
type DialOutcome uint8

const (
	// dialUnproven: none; the hub may be there.
	dialUnproven DialOutcome = iota
	// DialAbsent: the hub is not at that address. The address refuses connections, or belongs to
	// another hub (WRONG_HUB, WRONG_CLUSTER).
	DialAbsent
	// dialFarewell: the hub holds no clients and never will again (SHUTTING_DOWN).
	dialFarewell
)

// peer is the core's knowledge of another hub. It is kept while the hub is a member, and for as
// long as late messages or leases of the hub may matter (see forgettableAt).
type peer struct {
	id    hub.ID
	hello *peerv1.Hello // the latest hello, nil before the first

	// Membership.
	listed   bool          // it has a key in etcd
	keyed    time.Duration // until when its former key makes it a member
	told     time.Duration // until when a peer's word makes it a member
	address  string        // from its key, else its hello, else that word
	draining bool          // it said that it leaves
	farewell bool          // it said that it holds no clients
	absent   bool          // the latest dial found that it is not at its address
	met      bool          // it has had a link
	lost     time.Duration
	counted  bool          // it was a member at the latest count
	since    time.Duration // when that began, or when sends began to report a silent etcd
	early    bool          // that began before this hub served backends

	// How the peer sees this hub, as far as this hub knows; see verdict.go.
	proven  bool          // it has had a link with this hub
	proof   time.Duration // the latest time at which it surely had a link with this hub
	contact time.Duration // when a message last came from it

	// The link that this hub dials.
	out      *outbound // nil: none
	redial   time.Duration
	failures int
	nudged   bool // it dialled this hub, and was dialled back at once for that

	// The link that the peer dials.
	in      *inbound // nil: none
	inEpoch uint64   // the highest epoch so far
	grant   leaseGrant
}

// outbound is a link that this hub dials. All knowledge from the link goes with it.
type outbound struct {
	epoch  uint64
	member time.Duration // since when the peer was a member, at the dial
	since  time.Duration // start of the dial, then of the link
	linked bool
	filter filter
	probe  time.Duration // when the next probe is due
	silent bool          // for SuspectTime, and the effect suspected was given
}

// inbound is a link that a peer dials.
type inbound struct {
	epoch  uint64
	since  time.Duration
	heard  time.Duration
	probe  uint64 // the number of the latest probe
	hello  *peerv1.Hello
	used   bool          // the peer has this hub's answer
	feed   *feed         // sends this hub's interest
	ending bool          // fenced: its loops may still run, but their messages are ignored
	next   *peerv1.Hello // the hello of the next link, which waits for this link's loops
}

// isMember reports whether this hub counts the peer as a member of the cluster. Membership = keys
// in etcd ∪ live links. A link lives on for LostGrace unless the peer said farewell. The word of
// another hub counts for as long.
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

// membershipEnd returns when a peer without link and key ceases to be a member.
func (p *peer) membershipEnd() time.Duration {
	at := max(p.told, p.keyed)
	if p.met {
		at = max(at, p.lost+LostGrace)
	}
	return at
}

// isAnnounced reports whether this hub tells its peers of p. It does so for links and keys, present
// or recent, but not on the mere word of a peer. Keys count because a new hub may have listed after
// p's key went, and before this hub had a link to p.
func (p *peer) isAnnounced(now time.Duration) bool {
	switch {
	case p.hasLink():
		return !p.farewell
	case p.farewell:
		return false
	default:
		return p.met && now < p.lost+LostGrace || p.listed && !p.absent || now < p.keyed
	}
}

// hasLink reports whether there is a link in either direction.
func (p *peer) hasLink() bool { return p.out != nil && p.out.linked || p.in != nil }

// forgettableAt returns from when on the core needs nothing of a peer that is no member: no late
// message of an old link can come any more, and the peer has no lease.
func (p *peer) forgettableAt() time.Duration {
	at := p.membershipEnd()
	if p.grant.given {
		at = max(at, p.grant.last+LeaseTime)
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

// delayRedial sets the time of the next dial.
func (p *peer) delayRedial(now time.Duration) {
	p.redial = now + min(RedialFirst<<min(p.failures, 10), RedialMost)
}

// CommonVersion returns the highest protocol version that both hubs speak, or false if there is
// none.
func CommonVersion(a, b *peerv1.Hello) (uint32, bool) {
	highest := min(a.GetProtocolMax(), b.GetProtocolMax())
	return highest, highest > 0 && highest >= a.GetProtocolMin() && highest >= b.GetProtocolMin()
}

// refusalReason returns the reason to refuse h, the hello of a peer, or UNSPECIFIED to accept it.
// It does not judge the epoch.
func refusalReason(us, h *peerv1.Hello) peerv1.RefusalReason {
	_, versions := CommonVersion(us, h)
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

// provenBy maps a refusal to the conclusion about the dialled hub.
var provenBy = map[peerv1.RefusalReason]DialOutcome{
	peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB:     DialAbsent,
	peerv1.RefusalReason_REFUSAL_REASON_WRONG_CLUSTER: DialAbsent,
	peerv1.RefusalReason_REFUSAL_REASON_SHUTTING_DOWN: dialFarewell,
}

// OutcomeOf returns the conclusion about a hub that has refused this hub's hello.
func OutcomeOf(reason peerv1.RefusalReason) DialOutcome { return provenBy[reason] }
