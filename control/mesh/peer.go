package mesh

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// tend does what is due for one peer, and looks at what became of it.
func (c *core) tend(now time.Duration, p *peer) {
	c.tendOutbound(now, p)
	c.tendInbound(now, p)
	for _, w := range p.grant.release(now) {
		c.do(inForce{w.id})
	}
	c.recount(now, p)
	if !p.counted && !p.listed && p.out == nil && now >= p.forgettable() {
		delete(c.peers, p.id)
		c.order = slices.DeleteFunc(c.order, func(id hub.ID) bool { return id == p.id })
	}
}

func (c *core) tendOutbound(now time.Duration, p *peer) {
	switch o := p.out; {
	case o == nil:
		if p.wanted(now, c.farewell) && now >= p.redial {
			c.dial(now, p)
		}
	case !o.linked && now >= o.since+dialTimeout:
		c.hangUp(now, p, errDialTime)
	case o.linked && now >= o.filter.heard+linkTimeout:
		c.hangUp(now, p, errSilent)
	case o.linked:
		c.tendLink(now, p)
	}
}

// tendLink does what is due on a link that we dialled and that goes on.
func (c *core) tendLink(now time.Duration, p *peer) {
	o := p.out
	if !o.silent && o.filter.suspect(now) {
		o.silent = true
		c.do(suspected{p.id, o.epoch})
	}
	if now >= o.probe {
		o.probe = now + probeInterval
		c.say(p, &peerv1.ControlRequest{Body: &peerv1.ControlRequest_Probe{Probe: o.filter.probing(now)}})
	}
}

func (c *core) tendInbound(now time.Duration, p *peer) {
	if i := p.in; i != nil && !i.ending && now >= i.heard+linkTimeout {
		c.fence(p, errSilent)
	}
}

// next is when tend has something to do.
func (p *peer) next(now time.Duration, leaving bool) time.Duration {
	at := p.grant.next()
	switch o := p.out; {
	case o != nil && o.linked:
		at = min(at, o.probe, o.filter.heard+linkTimeout)
		if !o.silent {
			at = min(at, o.filter.heard+suspectTime)
		}
	case o != nil:
		at = min(at, o.since+dialTimeout)
	case p.wanted(now, leaving):
		at = min(at, p.redial)
	}
	if p.in != nil && !p.in.ending {
		at = min(at, p.in.heard+linkTimeout, now+probeInterval) // see core.forgive
	}
	switch {
	case p.up() || p.listed:
	case p.member(now):
		at = min(at, p.ends())
	case p.out == nil:
		at = min(at, p.forgettable())
	}
	return at
}

// wanted reports whether the peer is one to dial.
func (p *peer) wanted(now time.Duration, leaving bool) bool {
	return !leaving && !p.farewell && p.member(now)
}

func (c *core) dial(now time.Duration, p *peer) {
	c.recount(now, p)
	c.dials++
	p.out = &outbound{epoch: c.dials, since: now, member: p.since}
	h := proto.CloneOf(c.us)
	h.KnownFor, h.Forgotten = p.knownFor(now), c.lapses.silent(p.id)
	h.Expected = &peerv1.Identity{Cluster: c.us.GetSelf().GetCluster(), Hub: string(p.id)}
	h.Epoch = c.dials
	c.do(dial{p.id, p.address, h})
}

// hangUp ends the link that we dial, or the dial.
func (c *core) hangUp(now time.Duration, p *peer, cause error) {
	c.do(hangUp{p.id, p.out.epoch, cause})
	c.drop(now, p)
}

// drop forgets the link that we dial, with all that was learned on it. It comes before every dial: the peer counts on that.
func (c *core) drop(now time.Duration, p *peer) {
	if p.out.linked {
		p.lose(now)
	}
	if p.out.filter.answer == 0 {
		p.failures++ // a hub that takes a hello and hangs up is no better than one that does not answer
	}
	p.out = nil
	p.backoff(now)
}

// linked: the peer answered the hello of a dial.
func (c *core) linked(now time.Duration, id hub.ID, epoch uint64, h *peerv1.Hello) []effect {
	now = c.begin(now)
	p := c.dialling(id, epoch)
	if p == nil {
		return nil
	}
	if h.GetSelf().GetHub() != string(id) || h.GetEpoch() != epoch ||
		refusal(c.us, h) != peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED {
		c.hangUp(now, p, errImpostor)
		return c.settle(now, p)
	}
	c.recount(now, p)
	o := p.out
	switch {
	case !p.counted || p.since != o.member:
		c.hangUp(now, p, errLapsed)
		return c.settle(now, p)
	case c.missedBy(now, p, h):
		c.forget(now, missed(id))
		return c.settle(now, p)
	}
	p.prove(o.since)
	p.contact = now
	o.linked, o.since, o.probe, o.filter.heard = true, now, now, now
	p.hello, p.absent = h, false
	c.tell(now, h.GetMembers())
	if c.leaving {
		c.say(p, &peerv1.ControlRequest{Body: &peerv1.ControlRequest_GoingAway{GoingAway: c.goingAway()}})
	}
	return c.settle(now, p)
}

// tell takes the word of another hub that there are more.
func (c *core) tell(now time.Duration, members []*peerv1.Member) {
	for _, m := range members {
		c.hear(now, hub.ID(m.GetHub()), m.GetAddress())
	}
}

// members is what this hub tells others of its peers.
func (c *core) members(now time.Duration) (all []*peerv1.Member) {
	for _, id := range c.order {
		p := c.peers[id]
		fits := len(id) <= maxHubID && p.address != "" && len(p.address) <= maxAddress && len(all) < maxMembers
		if fits && p.known(now) {
			all = append(all, &peerv1.Member{Hub: string(id), Address: p.address})
		}
	}
	return all
}

// The limits of Hello.members (peer.proto): what else stands in etcd must not spoil the hello.
const (
	maxMembers = 4096
	maxHubID   = 64
	maxAddress = 1024
)

// dialFailed: a dial came to nothing.
func (c *core) dialFailed(now time.Duration, id hub.ID, epoch uint64, why dialOutcome) []effect {
	now = c.begin(now)
	p := c.dialling(id, epoch)
	if p == nil {
		return nil
	}
	p.absent = why == dialAbsent
	if p.absent {
		p.told, p.keyed = 0, 0
	}
	p.farewell = p.farewell || why == dialFarewell
	c.drop(now, p)
	return c.settle(now, p)
}

func (c *core) dialling(id hub.ID, epoch uint64) *peer {
	if p := c.peers[id]; p != nil && p.out != nil && p.out.epoch == epoch && !p.out.linked {
		return p
	}
	return nil
}

// lost: the link of that epoch, which we dial, has ended.
func (c *core) lost(now time.Duration, id hub.ID, epoch uint64) []effect {
	now = c.begin(now)
	p := c.linkedTo(id, epoch)
	if p == nil {
		return nil
	}
	c.drop(now, p)
	return c.settle(now, p)
}

func (c *core) linkedTo(id hub.ID, epoch uint64) *peer {
	if p := c.peers[id]; p != nil && p.out != nil && p.out.epoch == epoch && p.out.linked {
		return p
	}
	return nil
}

// responded: a message came on the Control stream that we dialled. What comes of an epoch that is over counts for nothing.
func (c *core) responded(now time.Duration, id hub.ID, epoch uint64, m *peerv1.ControlResponse) []effect {
	now = c.begin(now)
	p := c.linkedTo(id, epoch)
	if p == nil {
		return nil
	}
	p.contact = now
	var err error
	switch body := m.GetBody().(type) {
	case *peerv1.ControlResponse_ProbeAnswer:
		err = p.out.filter.answered(now, body.ProbeAnswer)
		p.prove(p.out.filter.answeredAt)
		p.out.silent, p.failures, p.nudged = false, 0, false
		c.lapses.clear(id) // it has judged our hello
	case *peerv1.ControlResponse_Interest:
		if err = p.out.filter.learn(body.Interest); err == nil {
			c.say(p, &peerv1.ControlRequest{Body: &peerv1.ControlRequest_InterestConfirmation{
				InterestConfirmation: &peerv1.InterestConfirmation{Sequence: body.Interest.GetSequence()},
			}})
		}
	case *peerv1.ControlResponse_GoingAway:
		p.draining, p.farewell = true, p.farewell || body.GoingAway.GetFarewell()
	default:
		err = fmt.Errorf("%w: unexpected response %T", errViolation, body)
	}
	if err != nil {
		c.hangUp(now, p, err)
	}
	return c.settle(now, p)
}

// greeted: a hello came from a hub that dialled us.
func (c *core) greeted(now time.Duration, h *peerv1.Hello) []effect {
	now = c.begin(now)
	id, epoch := hub.ID(h.GetSelf().GetHub()), h.GetEpoch()
	reason := refusal(c.us, h)
	if c.farewell && reason == peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED { // whoever is looked for here is the one who leaves
		reason = peerv1.RefusalReason_REFUSAL_REASON_SHUTTING_DOWN
	}
	if reason != peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED {
		c.do(refuse{id, epoch, reason})
		return c.end()
	}
	p := c.peer(now, id)
	c.recount(now, p)
	if epoch <= p.inEpoch {
		c.do(refuse{id, epoch, peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH})
		return c.settle(now, p)
	}
	p.inEpoch = epoch
	p.grant.void() // it has thrown away what it filtered by
	if p.in == nil {
		c.open(now, p, h)
		return c.settle(now, p)
	}
	if old := p.in.next; old != nil {
		c.do(refuse{id, old.GetEpoch(), peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH})
	}
	p.in.next = h
	if !p.in.ending {
		c.fence(p, errRedialed)
	}
	return c.settle(now, p)
}

// open accepts a link that a peer dialled.
func (c *core) open(now time.Duration, p *peer, h *peerv1.Hello) {
	p.in = &inbound{epoch: h.GetEpoch(), hello: h, since: now, heard: now, feed: newFeed(&c.interest)}
	p.hello = h
	c.recount(now, p)
	if !p.listed {
		p.address = h.GetAddress()
	}
	if p.out == nil && !p.nudged {
		p.redial, p.nudged = now, true // whoever dials is there; but two that can't agree must not spur each other on
	}
	answer := proto.CloneOf(c.us)
	answer.Expected, answer.Epoch, answer.Members = h.GetSelf(), h.GetEpoch(), c.members(now)
	answer.KnownFor, answer.Forgotten = p.knownFor(now), c.lapses.silent(p.id)
	c.do(accept{p.id, answer})
	c.pump(p)
	if c.leaving {
		c.reply(p, &peerv1.ControlResponse{Body: &peerv1.ControlResponse_GoingAway{GoingAway: c.goingAway()}})
	}
}

// fence has the shell end the link that the peer dialled. From now on nothing that comes on it counts.
func (c *core) fence(p *peer, cause error) {
	p.in.ending = true
	c.do(fence{p.id, p.in.epoch, cause})
}

// ended: the loops of a link that a peer dialled are over, by fence or by themselves.
func (c *core) ended(now time.Duration, id hub.ID, epoch uint64) []effect {
	now = c.begin(now)
	p := c.peers[id]
	if p == nil || p.in == nil {
		return nil
	}
	next := p.in.next
	if next != nil && next.GetEpoch() == epoch { // it went before it was its turn
		p.in.next = nil
	}
	if p.in.epoch != epoch {
		return nil
	}
	p.in = nil
	p.lose(now)
	switch {
	case next == nil:
	case c.farewell: // said while it waited
		c.do(refuse{id, next.GetEpoch(), peerv1.RefusalReason_REFUSAL_REASON_SHUTTING_DOWN})
	default:
		c.open(now, p, next)
	}
	return c.settle(now, p)
}

// used: the peer that dialled the link of that epoch has our answer, because it uses the link. Only now is its hello known to
// be fresh, so this comes before anything on the link is carried out.
func (c *core) used(now time.Duration, id hub.ID, epoch uint64) []effect {
	now = c.begin(now)
	if p := c.peers[id]; c.admits(id, epoch) && !p.in.used {
		p.in.used = true
		c.lapses.clear(id) // it has judged our answer
		if c.missedBy(p.in.since, p, p.in.hello) {
			c.forget(now, missed(id))
		}
	}
	return c.end()
}

// admits reports whether that link, which a peer dialled, is open: whether a lane of it may open, and go on.
func (c *core) admits(id hub.ID, epoch uint64) bool {
	p := c.peers[id]
	return p != nil && p.in != nil && p.in.epoch == epoch && !p.in.ending
}

// requested: a message came on the Control stream that a peer dialled.
func (c *core) requested(now time.Duration, id hub.ID, epoch uint64, m *peerv1.ControlRequest) []effect {
	now = c.begin(now)
	c.effects = c.used(now, id, epoch)
	if !c.admits(id, epoch) {
		return c.end()
	}
	p := c.peers[id]
	p.in.heard, p.contact = now, now
	var err error
	switch body := m.GetBody().(type) {
	case *peerv1.ControlRequest_Probe:
		if n := body.Probe.GetNumber(); n != p.in.probe+1 {
			err = fmt.Errorf("%w: probe %d after %d", errViolation, n, p.in.probe)
			break
		}
		p.in.probe++
		for _, m := range p.in.feed.catchUp(&c.interest) {
			c.reply(p, &peerv1.ControlResponse{Body: &peerv1.ControlResponse_Interest{Interest: m}})
		}
		answer := p.grant.answer(now, p.in.probe, c.interest.version)
		c.reply(p, &peerv1.ControlResponse{Body: &peerv1.ControlResponse_ProbeAnswer{ProbeAnswer: answer}})
	case *peerv1.ControlRequest_InterestConfirmation:
		sequence := body.InterestConfirmation.GetSequence()
		version, ok := p.in.feed.confirm(sequence)
		if !ok {
			err = fmt.Errorf("%w: confirmed interest %d, which was not sent", errViolation, sequence)
			break
		}
		p.grant.confirm(version)
		c.pump(p)
	case *peerv1.ControlRequest_GoingAway:
		p.draining, p.farewell = true, p.farewell || body.GoingAway.GetFarewell()
	default:
		err = fmt.Errorf("%w: unexpected request %T", errViolation, body)
	}
	if err != nil {
		c.fence(p, err)
	}
	return c.settle(now, p)
}
