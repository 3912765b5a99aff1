package core

import (
	"errors"
	"slices"
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// The versions of the peer protocol that this binary speaks.
const (
	ProtocolMin = 1
	ProtocolMax = 3

	// BatchVersion is the first version with batches of calls and results.
	BatchVersion = 2
)

const (
	// readyWait is the most time that a new hub waits for the present hubs to know it.
	readyWait = 15 * time.Second
	// HashBits is the length of a Hash. Tests shorten it, so that collisions happen.
	HashBits = 64
)

// The causes for which the core ends a link.
var (
	ErrSilent   = errors.New("peer is silent")
	ErrDialTime = errors.New("dial took too long")
	ErrRedialed = errors.New("peer dialled anew")
	errImpostor = errors.New("another hub answered")
	// errLapsed: this hub has forgotten the peer during the dial. So the peer's hello, which
	// answers an older hello, says nothing about the present.
	errLapsed = errors.New("peer was forgotten during the dial")
)

// Config describes this hub. Every field is required.
type Config struct {
	// Us is the hello of this hub. The core fills in expected and epoch for each dial.
	Us *peerv1.Hello
	// HashBits shortens hashes, for tests. It is 64 in production, and the same at every hub of a
	// cluster.
	HashBits int
}

// Core decides all that hubs tell each other. It has no goroutine, no clock and no I/O. Each event
// is a method call with the time of a monotonic clock; the returned effects are for the shell to
// carry out.
//
// A core is not safe for concurrent use. But FindRoute, AdmitsLink, CountsMember, NextDeadline and
// PeerInfos change nothing, so they may run at the same time.
type Core struct {
	us   *peerv1.Hello
	self hub.ID
	mask Hash

	now      time.Duration
	interest interest
	roster
	outbox
	// Dials so far, to all hubs. They number the epochs. A count for each hub would begin anew
	// after the hub was forgotten.
	dials  uint64
	lapses lapses // peers that this hub has forgotten

	// For how long etcd has been silent. Answers to backends say so (discovery_stale_for). The
	// shell sets it.
	deaf time.Duration

	registered bool // this hub has a key in etcd
	leaving    bool // this hub drains
	farewell   bool // this hub holds no clients any more

	// Peers may have left this hub's clients out of a send. This hub must end.
	forgotten bool

	ready   bool
	serves  time.Duration // since when this hub is ready
	listing bool          // HandleKeys was called
	// A list had this hub's key, so the list is younger than the registration.
	known   bool
	lapsed  map[hub.ID]struct{} // lapsed hubs of the latest list: each is looked for once
	waitFor []hub.ID            // hubs that must know this hub before it is ready
	readyBy time.Duration       // the latest time for that
}

// New returns a core without peers, at time 0.
func New(config Config) *Core {
	return &Core{
		us:     config.Us,
		self:   hub.ID(config.Us.GetSelf().GetHub()),
		mask:   ^Hash(0) >> (HashBits - config.HashBits),
		roster: roster{peers: make(map[hub.ID]*peer)},
	}
}

// startCall begins every call that may change the core. It returns the time to use, which never
// goes back: callers may arrive in another order than they read the clock.
func (c *Core) startCall(now time.Duration) time.Duration {
	c.forgiveDelay(now - c.now)
	c.now = max(c.now, now)
	return c.now
}

// Listed is a hub's key in etcd.
type Listed struct {
	Hub     hub.ID
	Address string
}

// HandleKeys takes the current list of discovery: all keys, and the hubs that have lapsed. The
// shell does not call it while etcd is away, so the last keys stay.
func (c *Core) HandleKeys(now time.Duration, all, lapsed []Listed) []Effect {
	now = c.startCall(now)
	for _, id := range c.order {
		p := c.peers[id]
		c.recountMember(now, p)
		if p.listed && !p.met && !p.absent {
			// The peer's key may go because the peer has lost etcd, so it stays a member a little
			// longer.
			p.keyed = now + LostGrace
		}
		p.listed = false
	}
	c.registered = false
	for _, l := range all {
		if l.Hub == c.self {
			c.registered, c.known = true, true
			continue
		}
		p := c.ensurePeer(now, l.Hub)
		p.listed, p.address = true, l.Address
		c.delayReadiness(l.Hub)
	}
	c.seekLapsed(now, lapsed)
	if !c.listing {
		c.listing, c.readyBy = true, now+readyWait
	}
	c.tendAllPeers(now)
	return c.takeEffects()
}

// seekLapsed dials lapsed hubs that this hub has not known, as it dials hubs of which a peer tells:
// etcd may have ended the leases of all hubs at once, and then no peer tells of them. It looks for
// each lapsed hub once. A live hub answers. A killed hub turns out to be absent, or is dropped
// after LostGrace. HandleKeys calls it before tendAllPeers.
func (c *Core) seekLapsed(now time.Duration, lapsed []Listed) {
	before := c.lapsed
	c.lapsed = make(map[hub.ID]struct{}, len(lapsed))
	for _, l := range lapsed {
		c.lapsed[l.Hub] = struct{}{}
		p := c.peers[l.Hub]
		if _, sought := before[l.Hub]; !sought && (p == nil || !p.counted) {
			c.learnOfPeer(now, l.Hub, l.Address)
		}
	}
}

// learnOfPeer takes the word of a peer, or a lapsed mark, that a hub exists.
func (c *Core) learnOfPeer(now time.Duration, id hub.ID, address string) {
	if id == c.self || id == "" || address == "" {
		return
	}
	p := c.ensurePeer(now, id)
	if c.recountMember(now, p); !p.counted && !p.farewell {
		p.told, p.address = now+LostGrace, address
		c.tendPeer(now, p)
		c.delayReadiness(id)
	}
}

// delayReadiness makes this hub wait for a link with id before it is ready. That includes hubs that
// are listed late: such a hub may have been there for long, and may have regained its key before it
// looks for new hubs.
func (c *Core) delayReadiness(id hub.ID) {
	if !c.ready && !slices.Contains(c.waitFor, id) {
		c.waitFor = append(c.waitFor, id)
	}
}

// AddReference adds a reference to h for a new connection or membership. The connection or
// membership must exist already: a send that a peer lets through must find it.
func (c *Core) AddReference(now time.Duration, h Hash) []Effect {
	c.startCall(now)
	before := c.interest.version
	c.interest.addReference(h & c.mask)
	if c.interest.version != before {
		c.feedAllPeers()
	}
	return c.takeEffects()
}

// AwaitInForce makes a join wait until the references to hashes, added before, are in force at
// every hub. Then the effect inForce carries number.
func (c *Core) AwaitInForce(now time.Duration, number uint64, hashes []Hash) []Effect {
	now = c.startCall(now)
	need := uint64(0)
	for _, h := range hashes {
		need = max(need, c.interest.versionOf(h&c.mask))
	}
	w := &waitingJoin{id: number}
	for _, id := range c.order {
		c.peers[id].grant.addWaiter(now, w, need)
	}
	if w.open == 0 {
		c.addEffect(InForce{number})
	}
	return c.takeEffects()
}

// RemoveReference removes a reference to h, for a connection or membership that has ended. It
// returns false if there was none. No call waits for the removal: a late send finds no client.
func (c *Core) RemoveReference(now time.Duration, h Hash) bool {
	return c.interest.removeReference(c.startCall(now), h&c.mask)
}

// GoAway tells the peers that this hub leaves. With farewell this hub holds no clients any more:
// from then on it neither dials nor accepts links.
func (c *Core) GoAway(now time.Duration, farewell bool) []Effect {
	c.startCall(now)
	c.leaving, c.farewell = true, c.farewell || farewell
	for _, id := range c.order {
		p := c.peers[id]
		if p.out != nil && p.out.linked {
			c.sendRequest(p, &peerv1.ControlRequest{
				Body: &peerv1.ControlRequest_GoingAway{GoingAway: goingAway(c.farewell)},
			})
		}
		if p.in != nil && !p.in.ending {
			c.sendResponse(p, &peerv1.ControlResponse{
				Body: &peerv1.ControlResponse_GoingAway{GoingAway: goingAway(c.farewell)},
			})
		}
	}
	return c.takeEffects()
}

// SetCluster sets the id of the cluster, which is known before the first link.
func (c *Core) SetCluster(id string) { c.us.Self.Cluster = id }

// Cluster returns the id of the cluster; empty: it is not known yet.
func (c *Core) Cluster() string { return c.us.GetSelf().GetCluster() }

// NoteSilence notes for how long etcd has been silent. It must precede each other call.
func (c *Core) NoteSilence(stale time.Duration) { c.deaf = stale }

// RaiseSilence notes that etcd has been silent for at least as long.
func (c *Core) RaiseSilence(stale time.Duration) { c.deaf = max(c.deaf, stale) }

// IsRegistered reports whether this hub has a key in etcd, as far as it knows.
func (c *Core) IsRegistered() bool { return c.registered }

// InterestSize returns the number of hashes of this hub's interest.
func (c *Core) InterestSize() int { return c.interest.len }

// VersionWith returns the protocol version that this hub speaks with the sender of h.
func (c *Core) VersionWith(h *peerv1.Hello) uint32 {
	version, _ := CommonVersion(c.us, h)
	return version
}

// HandleTick does all work that is due. The shell calls it at NextDeadline; more calls do no harm.
func (c *Core) HandleTick(now time.Duration) []Effect {
	now = c.startCall(now)
	before := c.interest.version
	c.interest.removeFaded(now)
	if c.interest.version != before {
		c.feedAllPeers()
	}
	c.tendAllPeers(now)
	return c.takeEffects()
}

// NextDeadline returns when HandleTick next has work to do.
func (c *Core) NextDeadline() time.Duration {
	at := c.interest.nextDeadline()
	if c.listing && !c.ready {
		at = min(at, c.readyBy)
	}
	for _, p := range c.peers {
		at = min(at, p.nextDeadline(c.now, c.farewell))
	}
	return max(at, c.now)
}

func (c *Core) tendAllPeers(now time.Duration) {
	for _, id := range slices.Clone(c.order) {
		c.tendPeer(now, c.peers[id])
	}
	c.checkReady(now)
}

// finishPeerCall ends a call that concerned a single peer.
func (c *Core) finishPeerCall(now time.Duration, p *peer) []Effect {
	c.tendPeer(now, p)
	c.checkReady(now)
	return c.takeEffects()
}

// checkReady makes this hub ready if every hub that it has heard of knows it, or readyBy has
// passed.
//
// Until then backends must not come: a send through a hub that does not know this hub would miss
// the clients here, and would not say so. A hub registers before it lists, so each hub that is
// missing from its list dials it later. Hence the list must contain this hub's own key: an older
// list may lack a hub that has just become ready. A probe on the peer's link proves that the link
// is up at the peer too.
func (c *Core) checkReady(now time.Duration) {
	if c.ready || !c.listing {
		return
	}
	c.waitFor = slices.DeleteFunc(c.waitFor, func(id hub.ID) bool {
		p := c.peers[id]
		return p == nil || !p.isMember(now) || p.absent ||
			p.out != nil && p.out.linked && p.in != nil && !p.in.ending && p.in.probe > 0
	})
	if c.known && len(c.waitFor) == 0 || now >= c.readyBy {
		c.addEffect(Ready{Without: c.waitFor})
		c.ready, c.serves, c.waitFor = true, now, nil
	}
}

func (c *Core) feedAllPeers() {
	for _, id := range c.order {
		c.feedPeer(c.peers[id], &c.interest)
	}
}
