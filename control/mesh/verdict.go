package mesh

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// Problem: a hub that stood still, or was cut off, is forgotten by its peers when its key in etcd is gone and lostGrace has
// passed. Their sends then miss its clients and don't say so. When the hub goes on as if nothing had happened, its clients stay
// attached with a hole in what they got, and nobody knows.
//
// Invariant: when a send through a hub A has begun while A did not count B as a member, B takes nothing from A any more under
// its id: it closes its clients, and starts anew as another hub.
//
// Outline: three rules find it out. The first and the last do so before anything that has come from
// A is carried out.
//
//   - A says in each hello for how long it has counted B as a member without a gap (Hello.known_for). B was missed if that
//     began after B had begun to serve, and later than lostGrace after the last moment at which A had a link with B for sure.
//     Before that A can't have forgotten B. The rule needs no time in common: only that a second is as long at A as at B.
//     An answer to B's hello is younger than that hello. A hello that comes from A may be old, so it is judged when A first
//     uses the link (core.handleFirstUse): then it was at most dialTimeout old when B answered it. A drops a link when it has forgotten B
//     since the dial (errLapsed). A hello that names a time to come, or one of over 100 years, breaks a rule (peer.proto), and
//     ends the stream before it is judged.
//   - On a suspended virtual machine B's clock stands still, and B sees no gap. So A remembers which
//     hubs it has counted and forgotten while it served (lapses), and says so in its next hello
//     (Hello.forgotten): then B was missed, whatever B's clock says. B can still carry out what had
//     come before it was suspended.
//   - What peers sent while B stood still waits in its sockets, and would be carried out before any hello comes. So a hub that
//     stood still (wake) for so long that every peer may have forgotten it does not ask: it is forgotten.
//
// Sends through A that say that etcd is silent (discovery_stale_for) are not silent about B: that time counts as known. So a hub
// that comes back does not take down those that came while it was away.
//
// A hub that is cut off from everything and runs keeps its clients: it may be the others that are gone. It learns the truth from
// the first hello. A hub without peers has nobody to forget it; a hub that came meanwhile says so in its hello.

// ErrForgotten: other hubs may have forgotten this one, so their sends may have missed its clients.
var ErrForgotten = errors.New("other hubs may have forgotten this one")

// alwaysKnown is what a hub says of a peer that it has known since before it served backends.
const alwaysKnown = 100 * 365 * 24 * time.Hour

// standstill is a time without a call of the core that proves that the process stood still: with a peer that may
// forget it, its calls are redialMost apart at most.
const standstill = linkTimeout

// checkStandstill comes before each other call. It reports by an effect that the hub stood still for too long.
func (c *core) checkStandstill(now time.Duration) []effect {
	slept := now - c.now
	if slept < standstill || !c.ready || c.leaving {
		return nil
	}
	last, met := time.Duration(0), false
	for _, p := range c.peers {
		if p.contact > 0 && !p.farewell {
			last, met = max(last, p.contact), true
		}
	}
	// the last: it was cut off before; see missedBy
	if !met || now < last+lostGrace || c.now >= last+lostGrace {
		return nil
	}
	c.endForgotten(now,
		fmt.Errorf("%w: it stood still for %v", ErrForgotten, slept.Round(time.Second)))
	return c.takeEffects()
}

// missedBy reports whether sends through a peer may have missed this hub. The peer has said hello, and now is when that came.
func (c *core) missedBy(now time.Duration, p *peer, h *peerv1.Hello) bool {
	switch {
	case !c.ready || c.leaving:
		return false
	case h.GetForgotten():
		return now > c.serves // or it tells of a time before
	case h.GetKnownFor() == nil:
		return false
	}
	since := now - h.GetKnownFor().AsDuration()
	return since > c.serves && (!p.proven || since >= p.proof+lostGrace)
}

func missedError(by hub.ID) error {
	return fmt.Errorf("%w: hub %s did not count it as a member for some time", ErrForgotten, by)
}

// endForgotten ends every link at once. The hub is over.
func (c *core) endForgotten(now time.Duration, cause error) {
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
	c.addEffect(forgotten{cause})
}

// recountMember finds out whether a peer has become a member or ceased to be one. It comes before everything that may make it
// one again, so that no gap goes unseen.
func (c *core) recountMember(now time.Duration, p *peer) {
	is := p.isMember(now)
	switch {
	case p.counted && !is:
		c.addEffect(gone{p.id})
		if c.ready && !p.farewell {
			c.lapses.noteForgotten(p.id, now)
		}
	case !p.counted && is:
		p.since, p.early = now-c.deaf, !c.ready
		c.lapses.noteCounted(p.id, p.since)
	}
	p.counted = is
}

// knownFor is what the peer, which is a member, is told in a hello.
func (p *peer) knownFor(now time.Duration) *durationpb.Duration {
	if p.early {
		return durationpb.New(alwaysKnown)
	}
	return durationpb.New(now - p.since)
}

// proveLink notes that the peer had a link with this hub at a time.
func (p *peer) proveLink(at time.Duration) { p.proven, p.proof = true, max(p.proof, at) }
