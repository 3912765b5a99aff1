package core

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// tendPeer does all work that is due for a peer. It removes a peer that is not needed any more.
func (c *Core) tendPeer(now time.Duration, p *peer) {
	c.tendOutbound(now, p)
	c.tendInbound(now, p)
	for _, w := range p.grant.releaseWaiters(now) {
		c.addEffect(InForce{w.id})
	}
	c.recountMember(now, p)
	if !p.counted && !p.listed && p.out == nil && now >= p.forgettableAt() {
		c.removePeer(p.id)
	}
}

func (c *Core) tendOutbound(now time.Duration, p *peer) {
	switch o := p.out; {
	case o == nil:
		if p.shouldDial(now, c.farewell) && now >= p.redial {
			c.dialPeer(now, p)
		}
	case !o.linked && now >= o.since+DialTimeout:
		c.hangUp(now, p, ErrDialTime)
	case o.linked && now >= o.filter.heard+LinkTimeout:
		c.hangUp(now, p, ErrSilent)
	case o.linked:
		c.tendLink(now, p)
	}
}

// nextDeadline returns when tendPeer next has work to do.
func (p *peer) nextDeadline(now time.Duration, leaving bool) time.Duration {
	at := p.grant.nextDeadline()
	switch o := p.out; {
	case o != nil && o.linked:
		at = min(at, o.probe, o.filter.heard+LinkTimeout)
		if !o.silent {
			at = min(at, o.filter.heard+SuspectTime)
		}
	case o != nil:
		at = min(at, o.since+DialTimeout)
	case p.shouldDial(now, leaving):
		at = min(at, p.redial)
	}
	if p.in != nil && !p.in.ending {
		at = min(at, p.in.heard+LinkTimeout, now+ProbeInterval) // see core.forgiveDelay
	}
	switch {
	case p.hasLink() || p.listed:
	case p.isMember(now):
		at = min(at, p.membershipEnd())
	case p.out == nil:
		at = min(at, p.forgettableAt())
	}
	return at
}

// shouldDial reports whether this hub should dial the peer.
func (p *peer) shouldDial(now time.Duration, leaving bool) bool {
	return !leaving && !p.farewell && p.isMember(now)
}

func (c *Core) dialPeer(now time.Duration, p *peer) {
	c.recountMember(now, p)
	c.dials++
	p.out = &outbound{epoch: c.dials, since: now, member: p.since}
	h := proto.CloneOf(c.us)
	h.KnownFor, h.Forgotten = p.knownFor(now), c.lapses.missedSilently(p.id)
	h.Expected = &peerv1.Identity{Cluster: c.us.GetSelf().GetCluster(), Hub: string(p.id)}
	h.Epoch = c.dials
	c.addEffect(Dial{p.id, p.address, h})
}

// dropOutbound forgets the link that this hub dials, with all knowledge from it. It precedes every
// dial: the peer relies on that.
func (p *peer) dropOutbound(now time.Duration) {
	if p.out.linked {
		p.noteLinkEnd(now)
	}
	if p.out.filter.answer == 0 {
		// A hub that takes a hello and hangs up is no better than a hub that does not answer.
		p.failures++
	}
	p.out = nil
	p.delayRedial(now)
}

// HandleLinked processes a peer's answer to the hello of a dial.
func (c *Core) HandleLinked(now time.Duration, id hub.ID, epoch uint64, h *peerv1.Hello) []Effect {
	now = c.startCall(now)
	p := c.findDial(id, epoch)
	if p == nil {
		return nil
	}
	if h.GetSelf().GetHub() != string(id) || h.GetEpoch() != epoch ||
		refusalReason(c.us, h) != peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED {
		c.hangUp(now, p, errImpostor)
		return c.finishPeerCall(now, p)
	}
	c.recountMember(now, p)
	o := p.out
	switch {
	case !p.counted || p.since != o.member:
		c.hangUp(now, p, errLapsed)
		return c.finishPeerCall(now, p)
	case c.missedBy(now, p, h):
		c.endForgotten(now, missedError(id))
		return c.finishPeerCall(now, p)
	}
	p.proveLink(o.since)
	p.contact = now
	o.linked, o.since, o.probe, o.filter.heard = true, now, now, now
	p.hello, p.absent = h, false
	for _, m := range h.GetMembers() {
		c.learnOfPeer(now, hub.ID(m.GetHub()), m.GetAddress())
	}
	if c.leaving {
		c.sendRequest(p, &peerv1.ControlRequest{
			Body: &peerv1.ControlRequest_GoingAway{GoingAway: goingAway(c.farewell)},
		})
	}
	return c.finishPeerCall(now, p)
}

// The limits of Hello.members (peer.proto): a wrong key in etcd must not spoil the hello.
const (
	maxMembers = 4096
	maxHubID   = 64
	maxAddress = 1024
)

// HandleDialFailure processes the failure of a dial.
func (c *Core) HandleDialFailure(
	now time.Duration, id hub.ID, epoch uint64, why DialOutcome,
) []Effect {
	now = c.startCall(now)
	p := c.findDial(id, epoch)
	if p == nil {
		return nil
	}
	p.absent = why == DialAbsent
	if p.absent {
		p.told, p.keyed = 0, 0
	}
	p.farewell = p.farewell || why == dialFarewell
	p.dropOutbound(now)
	return c.finishPeerCall(now, p)
}

// HandleLinkLoss processes the end of a link that this hub dialled.
func (c *Core) HandleLinkLoss(now time.Duration, id hub.ID, epoch uint64) []Effect {
	now = c.startCall(now)
	p := c.findLinked(id, epoch)
	if p == nil {
		return nil
	}
	p.dropOutbound(now)
	return c.finishPeerCall(now, p)
}

// HandleResponse processes a message on the Control stream that this hub dialled. It ignores
// messages of a past epoch.
func (c *Core) HandleResponse(
	now time.Duration, id hub.ID, epoch uint64, m *peerv1.ControlResponse,
) []Effect {
	now = c.startCall(now)
	p := c.findLinked(id, epoch)
	if p == nil {
		return nil
	}
	p.contact = now
	var err error
	switch body := m.GetBody().(type) {
	case *peerv1.ControlResponse_ProbeAnswer:
		err = p.out.filter.applyAnswer(now, body.ProbeAnswer)
		p.proveLink(p.out.filter.answeredAt)
		p.out.silent, p.failures, p.nudged = false, 0, false
		c.lapses.clearLapse(id) // the peer has judged this hub's hello
	case *peerv1.ControlResponse_Interest:
		if err = p.out.filter.applyInterest(body.Interest); err == nil {
			m := &peerv1.InterestConfirmation{Sequence: body.Interest.GetSequence()}
			c.sendRequest(p, &peerv1.ControlRequest{
				Body: &peerv1.ControlRequest_InterestConfirmation{InterestConfirmation: m},
			})
		}
	case *peerv1.ControlResponse_GoingAway:
		p.draining, p.farewell = true, p.farewell || body.GoingAway.GetFarewell()
	default:
		err = fmt.Errorf("%w: unexpected response %T", ErrViolation, body)
	}
	if err != nil {
		c.hangUp(now, p, err)
	}
	return c.finishPeerCall(now, p)
}

// HandleHello processes the hello of a hub that dials this hub.
func (c *Core) HandleHello(now time.Duration, h *peerv1.Hello) []Effect {
	now = c.startCall(now)
	id, epoch := hub.ID(h.GetSelf().GetHub()), h.GetEpoch()
	reason := refusalReason(c.us, h)
	// The dialler looks for this hub, and this hub leaves.
	if c.farewell && reason == peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED {
		reason = peerv1.RefusalReason_REFUSAL_REASON_SHUTTING_DOWN
	}
	if reason != peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED {
		c.addEffect(Refuse{id, epoch, reason})
		return c.takeEffects()
	}
	p := c.ensurePeer(now, id)
	c.recountMember(now, p)
	if epoch <= p.inEpoch {
		c.addEffect(Refuse{id, epoch, peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH})
		return c.finishPeerCall(now, p)
	}
	p.inEpoch = epoch
	p.grant.voidLease() // the peer has thrown its table away
	if p.in == nil {
		c.acceptLink(now, p, h)
		return c.finishPeerCall(now, p)
	}
	if old := p.in.next; old != nil {
		c.addEffect(Refuse{id, old.GetEpoch(), peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH})
	}
	p.in.next = h
	if !p.in.ending {
		c.fenceLink(p, ErrRedialed)
	}
	return c.finishPeerCall(now, p)
}

// acceptLink accepts a link that a peer dialled.
func (c *Core) acceptLink(now time.Duration, p *peer, h *peerv1.Hello) {
	p.in = &inbound{
		epoch: h.GetEpoch(), hello: h, since: now, heard: now, feed: newFeed(&c.interest),
	}
	p.hello = h
	c.recountMember(now, p)
	if !p.listed {
		p.address = h.GetAddress()
	}
	if p.out == nil && !p.nudged {
		// The peer is there, so dial it at once. But two hubs that can't agree must not provoke
		// each other without end.
		p.redial, p.nudged = now, true
	}
	answer := proto.CloneOf(c.us)
	answer.Expected, answer.Epoch, answer.Members = h.GetSelf(), h.GetEpoch(), c.listMembers(now)
	answer.KnownFor, answer.Forgotten = p.knownFor(now), c.lapses.missedSilently(p.id)
	c.addEffect(Accept{p.id, answer})
	c.feedPeer(p, &c.interest)
	if c.leaving {
		c.sendResponse(p, &peerv1.ControlResponse{
			Body: &peerv1.ControlResponse_GoingAway{GoingAway: goingAway(c.farewell)},
		})
	}
}

// HandleLinkEnd processes the end of the loops of a link that a peer dialled, fenced or not.
func (c *Core) HandleLinkEnd(now time.Duration, id hub.ID, epoch uint64) []Effect {
	now = c.startCall(now)
	p := c.peers[id]
	if p == nil || p.in == nil {
		return nil
	}
	next := p.in.next
	if next != nil && next.GetEpoch() == epoch { // it ended before its turn
		p.in.next = nil
	}
	if p.in.epoch != epoch {
		return nil
	}
	p.in = nil
	p.noteLinkEnd(now)
	switch {
	case next == nil:
	case c.farewell: // said while the next link waited
		c.addEffect(Refuse{id, next.GetEpoch(), peerv1.RefusalReason_REFUSAL_REASON_SHUTTING_DOWN})
	default:
		c.acceptLink(now, p, next)
	}
	return c.finishPeerCall(now, p)
}

// HandleFirstUse notes that the peer has this hub's answer, because it uses the link. This proves
// that the peer's hello is fresh. So it must precede the execution of anything from the link.
func (c *Core) HandleFirstUse(now time.Duration, id hub.ID, epoch uint64) []Effect {
	now = c.startCall(now)
	if p := c.peers[id]; c.AdmitsLink(id, epoch) && !p.in.used {
		p.in.used = true
		c.lapses.clearLapse(id) // the peer has judged this hub's answer
		if c.missedBy(p.in.since, p, p.in.hello) {
			c.endForgotten(now, missedError(id))
		}
	}
	return c.takeEffects()
}

// HandleRequest processes a message on the Control stream that a peer dialled.
func (c *Core) HandleRequest(
	now time.Duration, id hub.ID, epoch uint64, m *peerv1.ControlRequest,
) []Effect {
	now = c.startCall(now)
	c.effects = c.HandleFirstUse(now, id, epoch)
	if !c.AdmitsLink(id, epoch) {
		return c.takeEffects()
	}
	p := c.peers[id]
	p.in.heard, p.contact = now, now
	var err error
	switch body := m.GetBody().(type) {
	case *peerv1.ControlRequest_Probe:
		if n := body.Probe.GetNumber(); n != p.in.probe+1 {
			err = fmt.Errorf("%w: probe %d after %d", ErrViolation, n, p.in.probe)
			break
		}
		p.in.probe++
		for _, m := range p.in.feed.catchUp(&c.interest) {
			c.sendResponse(p, &peerv1.ControlResponse{
				Body: &peerv1.ControlResponse_Interest{Interest: m},
			})
		}
		answer := p.grant.answerProbe(now, p.in.probe, c.interest.version)
		c.sendResponse(p, &peerv1.ControlResponse{
			Body: &peerv1.ControlResponse_ProbeAnswer{ProbeAnswer: answer},
		})
	case *peerv1.ControlRequest_InterestConfirmation:
		sequence := body.InterestConfirmation.GetSequence()
		version, ok := p.in.feed.confirmSequence(sequence)
		if !ok {
			err = fmt.Errorf("%w: confirmed interest %d, which was not sent", ErrViolation,
				sequence)
			break
		}
		p.grant.confirmVersion(version)
		c.feedPeer(p, &c.interest)
	case *peerv1.ControlRequest_GoingAway:
		p.draining, p.farewell = true, p.farewell || body.GoingAway.GetFarewell()
	default:
		err = fmt.Errorf("%w: unexpected request %T", ErrViolation, body)
	}
	if err != nil {
		c.fenceLink(p, err)
	}
	return c.finishPeerCall(now, p)
}
