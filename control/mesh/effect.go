package mesh

import (
	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// effect is an order of the core to the shell. The shell carries out the effects of a peer in
// order, and the effects of different peers in any order.
type effect interface{ isEffect() }

// Effects on links that this hub dials.
type (
	// dial: open a Control stream to address and send hello. Then call core.handleLinked with the
	// answer, or core.handleDialFailure.
	dial struct {
		hub     hub.ID
		address string
		hello   *peerv1.Hello
	}
	// hangUp: end the streams, or the dial, of that epoch. The core has forgotten the link, so the
	// shell need not report its end.
	hangUp struct {
		hub   hub.ID
		epoch uint64
		cause error // for the log, and for the status if it is errViolation
	}
	// suspected: nothing has come on the link of that epoch for suspectTime. Callers that wait for
	// the peer stop waiting.
	suspected struct {
		hub   hub.ID
		epoch uint64
	}
	// request: send message on the Control stream of that epoch.
	request struct {
		hub     hub.ID
		epoch   uint64
		message *peerv1.ControlRequest
	}
)

// Effects on links that peers dialled.
type (
	// accept: answer the hello. From now on lanes of that epoch may open.
	accept struct {
		hub   hub.ID
		hello *peerv1.Hello
	}
	// refuse: end the stream that brought the hello.
	refuse struct {
		hub    hub.ID
		epoch  uint64
		reason peerv1.RefusalReason
	}
	// fence: end the Control and Data streams of that epoch, wait for their loops to end, then call
	// core.handleLinkEnd.
	fence struct {
		hub   hub.ID
		epoch uint64
		cause error // for the log, and for the status if it is errViolation
	}
	// response: send message on the Control stream of that epoch.
	response struct {
		hub     hub.ID
		epoch   uint64
		message *peerv1.ControlResponse
	}
)

// Effects on this hub itself.
type (
	// inForce: the join with that number of core.awaitInForce may return.
	inForce struct{ call uint64 }
	// gone: the peer is no longer a member.
	gone struct{ hub hub.ID }
	// ready: every listed hub knows this hub, so backends may come. The exception are the hubs in
	// without, which had 15 s.
	ready struct{ without []hub.ID }
	// forgotten: peers may have forgotten this hub. From now on no send may reach its clients. The
	// shell closes them, and another hub must take this hub's place. The core says farewell to each
	// hub that dials it.
	forgotten struct{ cause error }
)

func (dial) isEffect()      {}
func (hangUp) isEffect()    {}
func (suspected) isEffect() {}
func (request) isEffect()   {}
func (accept) isEffect()    {}
func (refuse) isEffect()    {}
func (fence) isEffect()     {}
func (response) isEffect()  {}
func (inForce) isEffect()   {}
func (gone) isEffect()      {}
func (ready) isEffect()     {}
func (forgotten) isEffect() {}
