package core

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// Problem: peers forget a hub that stood still, or was cut off, when its key in etcd is gone and
// LostGrace has passed. Their sends then miss its clients and don't say so. If the hub went on, its
// clients would stay attached with a gap in their messages, and no client would know.
//
// Invariant: if a send through a hub A has begun while A did not count a hub B as a member, then B
// takes nothing from A any more under its id. B closes its clients, and starts anew as another hub.
//
// Outline: three rules detect it. The first and the third do so before B carries out anything that
// has come from A.
//
//   - In each hello A says for how long it has counted B as a member without a gap
//     (Hello.known_for). B was missed if that began after B had begun to serve, and later than
//     LostGrace after the last moment at which A surely had a link with B. Before that moment A
//     can't have forgotten B. The rule needs no common clock: only a second must be as long at A as
//     at B. An answer to B's hello is younger than that hello. A hello from A may be old, so B
//     judges it when A first uses the link (Core.HandleFirstUse): by then it was at most
//     DialTimeout old when B answered it. A drops a link if it has forgotten B since the dial
//     (errLapsed). A hello with a future time, or a time of over 100 years, breaks a rule
//     (peer.proto) and ends the stream unjudged.
//   - On a suspended virtual machine B's clock stands still, and B sees no gap. So A remembers the
//     hubs that it has counted and forgotten while it served (lapses), and says so in its next
//     hello (Hello.forgotten). Then B was missed, even if B's clock shows no gap. B can still carry
//     out messages that had come before it was suspended.
//   - Messages that peers sent while B stood still wait in its sockets, and B would carry them out
//     before any hello comes. So if a hub stood still for so long that every peer may have
//     forgotten it, it does not ask: it counts as forgotten (Core.CheckStandstill).
//
// Sends through A that report a silent etcd (discovery_stale_for) are not silent about B: that time
// counts as known. So a hub that comes back does not take down the hubs that came while it was
// away.
//
// A running hub that is cut off from everything keeps its clients: perhaps its peers are gone. It
// learns the truth from the first hello. A hub without peers can't be forgotten; a hub that came
// meanwhile says so in its hello.

// ErrForgotten: peers may have forgotten this hub, so their sends may have missed its clients.
var ErrForgotten = errors.New("other hubs may have forgotten this one")

// alwaysKnown is the known_for of a peer that this hub has known since before it served backends.
const alwaysKnown = 100 * 365 * 24 * time.Hour

// Standstill is a time without a call of the core that proves that the process stood still. With a
// peer that may forget this hub, calls are at most RedialMost apart.
const Standstill = LinkTimeout

// CheckStandstill precedes each other call. If the hub stood still for too long, it returns the
// effect forgotten.
func (c *Core) CheckStandstill(now time.Duration) []Effect {
	slept := now - c.now
	if slept < Standstill || !c.ready || c.leaving {
		return nil
	}
	last, met := time.Duration(0), false
	for _, p := range c.peers {
		if p.contact > 0 && !p.farewell {
			last, met = max(last, p.contact), true
		}
	}
	// The last condition: the hub was cut off before it stood still; see missedBy.
	if !met || now < last+LostGrace || c.now >= last+LostGrace {
		return nil
	}
	c.endForgotten(now,
		fmt.Errorf("%w: it stood still for %v", ErrForgotten, slept.Round(time.Second)))
	return c.takeEffects()
}

// missedBy reports whether sends through p may have missed this hub. h is p's hello, and now is
// when h came.
func (c *Core) missedBy(now time.Duration, p *peer, h *peerv1.Hello) bool {
	switch {
	case !c.ready || c.leaving:
		return false
	case h.GetForgotten():
		return now > c.serves // else it tells of an earlier time
	case h.GetKnownFor() == nil:
		return false
	}
	since := now - h.GetKnownFor().AsDuration()
	return since > c.serves && (!p.proven || since >= p.proof+LostGrace)
}

func missedError(by hub.ID) error {
	return fmt.Errorf("%w: hub %s did not count it as a member for some time", ErrForgotten, by)
}

// endForgotten ends every link at once. The hub is over.
func (c *Core) endForgotten(now time.Duration, cause error) {
	c.leaving, c.farewell, c.forgotten = true, true, true
	for _, id := range c.order {
		p := c.peers[id]
		if p.out != nil {
			c.hangUp(now, p, cause)
		}
		if p.in != nil && !p.in.ending {
			c.fenceLink(p, cause)
		}
	}
	c.addEffect(Forgotten{cause})
}

// recountMember updates whether p counts as a member. It must precede every change that may make p
// a member again, so that no gap goes unseen.
func (c *Core) recountMember(now time.Duration, p *peer) {
	is := p.isMember(now)
	switch {
	case p.counted && !is:
		c.addEffect(Gone{p.id})
		if c.ready && !p.farewell {
			c.lapses.noteForgotten(p.id, now)
		}
	case !p.counted && is:
		p.since, p.early = now-c.deaf, !c.ready
		c.lapses.noteCounted(p.id, p.since)
	}
	p.counted = is
}

// knownFor returns the time that the hello tells p, which is a member.
func (p *peer) knownFor(now time.Duration) *durationpb.Duration {
	if p.early {
		return durationpb.New(alwaysKnown)
	}
	return durationpb.New(now - p.since)
}

// proveLink notes that the peer had a link with this hub at a time.
func (p *peer) proveLink(at time.Duration) { p.proven, p.proof = true, max(p.proof, at) }
