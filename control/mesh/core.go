package mesh

import (
	"errors"
	"slices"
	"time"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// The versions of the peer protocol that this binary speaks.
const (
	protocolMin = 1
	protocolMax = 2

	// batchVersion is the first version with batches of calls and results.
	batchVersion = 2
)

const (
	// readyWait is the most time that a new hub waits for the present hubs to know it.
	readyWait = 15 * time.Second
	// hashBits is the length of a Hash. Tests shorten it, so that collisions happen.
	hashBits = 64
)

// The causes for which the core ends a link.
var (
	errSilent   = errors.New("peer is silent")
	errDialTime = errors.New("dial took too long")
	errRedialed = errors.New("peer dialled anew")
	errImpostor = errors.New("another hub answered")
	// errLapsed: this hub has forgotten the peer during the dial. So the peer's hello, which
	// answers an older hello, says nothing about the present.
	errLapsed = errors.New("peer was forgotten during the dial")
)

// coreConfig describes this hub. Every field is required.
type coreConfig struct {
	// us is the hello of this hub. The core fills in expected and epoch for each dial.
	us *peerv1.Hello
	// hashBits shortens hashes, for tests. It is 64 in production, and the same at every hub of a
	// cluster.
	hashBits int
}

// core decides all that hubs tell each other. It has no goroutine, no clock and no I/O. Each event
// is a method call with the time of a monotonic clock; the returned effects are for the shell to
// carry out.
//
// A core is not safe for concurrent use. But findRoute, admitsLink, countsMember, nextDeadline and
// peerInfos change nothing, so they may run at the same time.
type core struct {
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
	listing bool          // handleKeys was called
	// A list had this hub's key, so the list is younger than the registration.
	known   bool
	lapsed  map[hub.ID]struct{} // lapsed hubs of the latest list: each is looked for once
	waitFor []hub.ID            // hubs that must know this hub before it is ready
	readyBy time.Duration       // the latest time for that
}

func newCore(config coreConfig) *core {
	return &core{
		us:     config.us,
		self:   hub.ID(config.us.GetSelf().GetHub()),
		mask:   ^Hash(0) >> (hashBits - config.hashBits),
		roster: roster{peers: make(map[hub.ID]*peer)},
	}
}

// startCall begins every call that may change the core. It returns the time to use, which never
// goes back: callers may arrive in another order than they read the clock.
func (c *core) startCall(now time.Duration) time.Duration {
	c.forgiveDelay(now - c.now)
	c.now = max(c.now, now)
	return c.now
}

// listed is a hub's key in etcd.
type listed struct {
	hub     hub.ID
	address string
}

// handleKeys takes the current list of discovery: all keys, and the hubs that have lapsed. The
// shell does not call it while etcd is away, so the last keys stay.
func (c *core) handleKeys(now time.Duration, all, lapsed []listed) []effect {
	now = c.startCall(now)
	for _, id := range c.order {
		p := c.peers[id]
		c.recountMember(now, p)
		if p.listed && !p.met && !p.absent {
			// The peer's key may go because the peer has lost etcd, so it stays a member a little
			// longer.
			p.keyed = now + lostGrace
		}
		p.listed = false
	}
	c.registered = false
	for _, l := range all {
		if l.hub == c.self {
			c.registered, c.known = true, true
			continue
		}
		p := c.ensurePeer(now, l.hub)
		p.listed, p.address = true, l.address
		c.delayReadiness(l.hub)
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
// after lostGrace. handleKeys calls it before tendAllPeers.
func (c *core) seekLapsed(now time.Duration, lapsed []listed) {
	before := c.lapsed
	c.lapsed = make(map[hub.ID]struct{}, len(lapsed))
	for _, l := range lapsed {
		c.lapsed[l.hub] = struct{}{}
		p := c.peers[l.hub]
		if _, sought := before[l.hub]; !sought && (p == nil || !p.counted) {
			c.learnOfPeer(now, l.hub, l.address)
		}
	}
}

// learnOfPeer takes the word of a peer, or a lapsed mark, that a hub exists.
func (c *core) learnOfPeer(now time.Duration, id hub.ID, address string) {
	if id == c.self || id == "" || address == "" {
		return
	}
	p := c.ensurePeer(now, id)
	if c.recountMember(now, p); !p.counted && !p.farewell {
		p.told, p.address = now+lostGrace, address
		c.tendPeer(now, p)
		c.delayReadiness(id)
	}
}

// delayReadiness makes this hub wait for a link with id before it is ready. That includes hubs that
// are listed late: such a hub may have been there for long, and may have regained its key before it
// looks for new hubs.
func (c *core) delayReadiness(id hub.ID) {
	if !c.ready && !slices.Contains(c.waitFor, id) {
		c.waitFor = append(c.waitFor, id)
	}
}

// addReference adds a reference to h for a new connection or membership. The connection or
// membership must exist already: a send that a peer lets through must find it.
func (c *core) addReference(now time.Duration, h Hash) []effect {
	c.startCall(now)
	before := c.interest.version
	c.interest.addReference(h & c.mask)
	if c.interest.version != before {
		c.feedAllPeers()
	}
	return c.takeEffects()
}

// awaitInForce makes a join wait until the references to hashes, added before, are in force at
// every hub. Then the effect inForce carries number.
func (c *core) awaitInForce(now time.Duration, number uint64, hashes []Hash) []effect {
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
		c.addEffect(inForce{number})
	}
	return c.takeEffects()
}

// removeReference removes a reference to h, for a connection or membership that has ended. It
// returns false if there was none. No call waits for the removal: a late send finds no client.
func (c *core) removeReference(now time.Duration, h Hash) bool {
	return c.interest.removeReference(c.startCall(now), h&c.mask)
}

// goAway tells the peers that this hub leaves. With farewell this hub holds no clients any more:
// from then on it neither dials nor accepts links.
func (c *core) goAway(now time.Duration, farewell bool) []effect {
	c.startCall(now)
	c.leaving, c.farewell = true, c.farewell || farewell
	for _, id := range c.order {
		p := c.peers[id]
		if p.out != nil && p.out.linked {
			c.sendRequest(p, &peerv1.ControlRequest{
				Body: &peerv1.ControlRequest_GoingAway{GoingAway: &peerv1.GoingAway{Farewell: c.farewell}},
			})
		}
		if p.in != nil && !p.in.ending {
			c.sendResponse(p, &peerv1.ControlResponse{
				Body: &peerv1.ControlResponse_GoingAway{GoingAway: &peerv1.GoingAway{Farewell: c.farewell}},
			})
		}
	}
	return c.takeEffects()
}

// setCluster sets the id of the cluster, which is known before the first link.
func (c *core) setCluster(id string) { c.us.Self.Cluster = id }

// cluster returns the id of the cluster; empty: it is not known yet.
func (c *core) cluster() string { return c.us.GetSelf().GetCluster() }

// noteSilence notes for how long etcd has been silent. It must precede each other call.
func (c *core) noteSilence(stale time.Duration) { c.deaf = stale }

// raiseSilence notes that etcd has been silent for at least as long.
func (c *core) raiseSilence(stale time.Duration) { c.deaf = max(c.deaf, stale) }

// isRegistered reports whether this hub has a key in etcd, as far as it knows.
func (c *core) isRegistered() bool { return c.registered }

// interestSize returns the number of hashes of this hub's interest.
func (c *core) interestSize() int { return c.interest.len }

// versionWith returns the protocol version that this hub speaks with the sender of h.
func (c *core) versionWith(h *peerv1.Hello) uint32 {
	version, _ := commonVersion(c.us, h)
	return version
}

// handleTick does all work that is due. The shell calls it at nextDeadline; more calls do no harm.
func (c *core) handleTick(now time.Duration) []effect {
	now = c.startCall(now)
	before := c.interest.version
	c.interest.removeFaded(now)
	if c.interest.version != before {
		c.feedAllPeers()
	}
	c.tendAllPeers(now)
	return c.takeEffects()
}

// nextDeadline returns when handleTick next has work to do.
func (c *core) nextDeadline() time.Duration {
	at := c.interest.nextDeadline()
	if c.listing && !c.ready {
		at = min(at, c.readyBy)
	}
	for _, p := range c.peers {
		at = min(at, p.nextDeadline(c.now, c.farewell))
	}
	return max(at, c.now)
}

func (c *core) tendAllPeers(now time.Duration) {
	for _, id := range slices.Clone(c.order) {
		c.tendPeer(now, c.peers[id])
	}
	c.checkReady(now)
}

// finishPeerCall ends a call that concerned a single peer.
func (c *core) finishPeerCall(now time.Duration, p *peer) []effect {
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
func (c *core) checkReady(now time.Duration) {
	if c.ready || !c.listing {
		return
	}
	c.waitFor = slices.DeleteFunc(c.waitFor, func(id hub.ID) bool {
		p := c.peers[id]
		return p == nil || !p.isMember(now) || p.absent ||
			p.out != nil && p.out.linked && p.in != nil && !p.in.ending && p.in.probe > 0
	})
	if c.known && len(c.waitFor) == 0 || now >= c.readyBy {
		c.addEffect(ready{without: c.waitFor})
		c.ready, c.serves, c.waitFor = true, now, nil
	}
}

func (c *core) feedAllPeers() {
	for _, id := range c.order {
		c.feedPeer(c.peers[id], &c.interest)
	}
}
