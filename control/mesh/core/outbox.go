package core

import (
	"time"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// outbox holds the effects of the running call of the core, in order. The zero value is empty.
type outbox struct {
	effects []Effect
}

func (o *outbox) addEffect(e Effect) { o.effects = append(o.effects, e) }

// takeEffects ends a call that startCall has begun: it returns the call's effects.
func (o *outbox) takeEffects() []Effect {
	out := o.effects
	o.effects = nil
	return out
}

func (o *outbox) sendRequest(p *peer, m *peerv1.ControlRequest) {
	o.addEffect(Request{p.id, p.out.epoch, m})
}

func (o *outbox) sendResponse(p *peer, m *peerv1.ControlResponse) {
	o.addEffect(Response{p.id, p.in.epoch, m})
}

// feedPeer sends a peer the part of n that the peer does not know yet.
func (o *outbox) feedPeer(p *peer, n *interest) {
	if p.in == nil || p.in.ending {
		return
	}
	for _, m := range p.in.feed.nextMessages(n) {
		o.sendResponse(p, &peerv1.ControlResponse{
			Body: &peerv1.ControlResponse_Interest{Interest: m},
		})
	}
}

// tendLink does all work that is due on an established link that this hub dialled.
func (o *outbox) tendLink(now time.Duration, p *peer) {
	out := p.out
	if !out.silent && out.filter.isSuspect(now) {
		out.silent = true
		o.addEffect(Suspected{p.id, out.epoch})
	}
	if now >= out.probe {
		out.probe = now + ProbeInterval
		o.sendRequest(p, &peerv1.ControlRequest{
			Body: &peerv1.ControlRequest_Probe{Probe: out.filter.nextProbe(now)},
		})
	}
}

func (o *outbox) tendInbound(now time.Duration, p *peer) {
	if i := p.in; i != nil && !i.ending && now >= i.heard+LinkTimeout {
		o.fenceLink(p, ErrSilent)
	}
}

// fenceLink makes the shell end the link that the peer dialled. From now on the core ignores
// messages of that link.
func (o *outbox) fenceLink(p *peer, cause error) {
	p.in.ending = true
	o.addEffect(Fence{p.id, p.in.epoch, cause})
}

// hangUp ends the link that this hub dials, or the dial.
func (o *outbox) hangUp(now time.Duration, p *peer, cause error) {
	o.addEffect(HangUp{p.id, p.out.epoch, cause})
	p.dropOutbound(now)
}

func goingAway(farewell bool) *peerv1.GoingAway { return &peerv1.GoingAway{Farewell: farewell} }
