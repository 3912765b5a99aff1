package mesh

import (
	"errors"
	"slices"
	"time"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Versions of the peer protocol that this binary speaks.
const (
	protocolMin = 1
	protocolMax = 2

	// batchVersion is the first with batches of calls and results.
	batchVersion = 2
)

const (
	// readyWait is how long a new hub waits, at most, for the hubs that are there to know it.
	readyWait = 15 * time.Second
	// hashBits is the length of a Hash. Tests cut it, so that collisions happen.
	hashBits = 64
)

// Why the core ends a link.
var (
	errSilent   = errors.New("peer is silent")
	errDialTime = errors.New("dial took too long")
	errRedialed = errors.New("peer dialled anew")
	errImpostor = errors.New("another hub answered")
	// errLapsed: while the dial was under way this hub forgot the peer, so what its hello says of that is old.
	errLapsed = errors.New("peer was forgotten during the dial")
)

// coreConfig says who this hub is. Everything is required.
type coreConfig struct {
	// us is the hello with which this hub introduces itself; expected and epoch are filled in for each dial.
	us *peerv1.Hello
	// hashBits cuts hashes, for tests: 64, and the same in every hub of the cluster.
	hashBits int
}

// core decides what hubs say to each other. It has no goroutine, no clock and no I/O: what happened comes in by a call
// with the time, on a monotonic clock, and what is to be done comes out as effects. It is not safe for concurrent use, but
// route, admits, next and peerInfos change nothing and may run together.
type core struct {
	us   *peerv1.Hello
	self hub.ID
	mask Hash

	now      time.Duration
	interest interest
	peers    map[hub.ID]*peer
	// so far, of all hubs: an epoch that counted those of one would begin anew when it is forgotten
	dials   uint64
	order   []hub.ID // of the peers, so that effects come in the same order every time
	lapses  lapses   // of peers that it has forgotten
	effects []effect // of the call that runs

	// for how long etcd has been silent, which answers say (discovery_stale_for); the shell sets it
	deaf time.Duration

	registered bool // has a key itself
	leaving    bool // drains
	farewell   bool // holds nothing any more

	// others may have sent to their clients and left out those of this hub: it is over
	forgotten bool

	ready   bool
	serves  time.Duration       // since when it is ready
	listing bool                // was listed once
	known   bool                // a list had its own key, so it is younger than the registration
	lapsed  map[hub.ID]struct{} // hubs that the last list has as lapsed: each is looked for once
	waitFor []hub.ID            // who must know this hub before it is ready
	readyBy time.Duration       // but not longer
}

func newCore(config coreConfig) *core {
	return &core{
		us:    config.us,
		self:  hub.ID(config.us.GetSelf().GetHub()),
		mask:  ^Hash(0) >> (hashBits - config.hashBits),
		peers: make(map[hub.ID]*peer),
	}
}

// startCall starts every call that may change something. Callers may have read the clock in another order than they come.
func (c *core) startCall(now time.Duration) time.Duration {
	c.forgiveDelay(now - c.now)
	c.now = max(c.now, now)
	return c.now
}

// forgiveDelay does not count as a peer's silence the time in which this hub could not run: stopped, or on a machine
// that has too much to do. Where there is a link, calls are a probeInterval apart at most. Leases are not stretched.
func (c *core) forgiveDelay(since time.Duration) {
	late := since - probeInterval
	if late <= 0 {
		return
	}
	for _, p := range c.peers {
		if p.out != nil && p.out.linked {
			p.out.filter.heard += late
		}
		if p.in != nil {
			p.in.heard += late
		}
	}
}

func (c *core) addEffect(e effect) { c.effects = append(c.effects, e) }

// takeEffects ends every such call.
func (c *core) takeEffects() []effect {
	out := c.effects
	c.effects = nil
	return out
}

// listed is a hub's key in etcd.
type listed struct {
	hub     hub.ID
	address string
}

// handleKeys takes what discovery has, each time: all keys, and the hubs that have lapsed. While etcd is
// away it is not called, and the last keys stay.
func (c *core) handleKeys(now time.Duration, all, lapsed []listed) []effect {
	now = c.startCall(now)
	for _, id := range c.order {
		p := c.peers[id]
		c.recountMember(now, p)
		if p.listed && !p.met && !p.absent {
			// its key may go because it has lost etcd: it is looked for a little longer
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

// seekLapsed looks for hubs that have lapsed as for those that another hub tells of, unless this hub knew
// them before: etcd may have ended the leases of all hubs at once, and then there is nobody to tell
// of them. Each is looked for once. One that lives answers. One that was killed is found not to be
// there, or is dropped after lostGrace. It is called in list, before tend.
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

// learnOfPeer takes the word that there is another hub.
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

// countsMember reports whether this hub counts another one as a member.
func (c *core) countsMember(now time.Duration, id hub.ID) bool {
	p := c.peers[id]
	return p != nil && p.isMember(now)
}

// delayReadiness has this hub not be ready before a hub knows it. Also one that is listed later: it may be there since long, and
// have got its key back before it looks for new ones.
func (c *core) delayReadiness(id hub.ID) {
	if !c.ready && !slices.Contains(c.waitFor, id) {
		c.waitFor = append(c.waitFor, id)
	}
}

// ensurePeer returns the peer of an id, a new one if need be.
func (c *core) ensurePeer(now time.Duration, id hub.ID) *peer {
	p := c.peers[id]
	if p == nil {
		p = &peer{id: id, redial: now}
		c.peers[id] = p
		i, _ := slices.BinarySearch(c.order, id)
		c.order = slices.Insert(c.order, i, id)
	}
	return p
}

// addReference takes a reference to a hash for what begins to exist here: a connection, a membership. It has begun to exist
// already, so that whoever is told of it finds it.
func (c *core) addReference(now time.Duration, h Hash) []effect {
	c.startCall(now)
	before := c.interest.version
	c.interest.addReference(h & c.mask)
	if c.interest.version != before {
		c.feedAllPeers()
	}
	return c.takeEffects()
}

// awaitInForce has a call wait until the references to hashes, which were added before, are in force at every hub: then the
// effect inForce carries its number.
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

// removeReference gives a reference back, for what has ended here; false: there was none. Nobody waits for it: a send that still
// comes finds nobody.
func (c *core) removeReference(now time.Duration, h Hash) bool {
	return c.interest.removeReference(c.startCall(now), h&c.mask)
}

// goAway tells the peers that this hub leaves; with farewell that it holds nothing any more, after which it neither
// dials nor is dialled.
func (c *core) goAway(now time.Duration, farewell bool) []effect {
	c.startCall(now)
	c.leaving, c.farewell = true, c.farewell || farewell
	for _, id := range c.order {
		p := c.peers[id]
		if p.out != nil && p.out.linked {
			c.sendRequest(p, &peerv1.ControlRequest{
				Body: &peerv1.ControlRequest_GoingAway{GoingAway: c.goingAway()},
			})
		}
		if p.in != nil && !p.in.ending {
			c.sendResponse(p, &peerv1.ControlResponse{
				Body: &peerv1.ControlResponse_GoingAway{GoingAway: c.goingAway()},
			})
		}
	}
	return c.takeEffects()
}

func (c *core) goingAway() *peerv1.GoingAway { return &peerv1.GoingAway{Farewell: c.farewell} }

// handleTick does what is due. It is to be called at next, and more often does no harm.
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

// nextDeadline is when tick has something to do.
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

// finishPeerCall ends a call that was about one peer.
func (c *core) finishPeerCall(now time.Duration, p *peer) []effect {
	c.tendPeer(now, p)
	c.checkReady(now)
	return c.takeEffects()
}

// checkReady finds out whether every hub that this one has heard of knows it. Until then backends
// must not come: a send through a hub that does not know this one would miss who is here, and say
// nothing. A hub that registered before it listed is dialled by all that it does not find; so the
// list must have its own key: one that is older may lack a hub that is ready just now. A probe says
// that the other end of a link is up.
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
		c.feedPeer(c.peers[id])
	}
}

// feedPeer tells a peer what it does not know.
func (c *core) feedPeer(p *peer) {
	if p.in == nil || p.in.ending {
		return
	}
	for _, m := range p.in.feed.nextMessages(&c.interest) {
		c.sendResponse(p, &peerv1.ControlResponse{
			Body: &peerv1.ControlResponse_Interest{Interest: m},
		})
	}
}

func (c *core) sendRequest(p *peer, m *peerv1.ControlRequest) {
	c.addEffect(request{p.id, p.out.epoch, m})
}

func (c *core) sendResponse(p *peer, m *peerv1.ControlResponse) {
	c.addEffect(response{p.id, p.in.epoch, m})
}
