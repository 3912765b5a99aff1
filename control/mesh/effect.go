package mesh

import (
	"github.com/connhub/connhub/hub"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// effect is something that the core wants done. The shell carries out effects in the order in which they came,
// those of different peers in any order.
type effect interface{ isEffect() }

// Effects on links that this hub dials.
type (
	// dial: open a Control stream to address, say hello, and call core.handleLinked with the answer or core.handleDialFailure.
	dial struct {
		hub     hub.ID
		address string
		hello   *peerv1.Hello
	}
	// hangUp: end the streams, or the dial, of that epoch. The core has forgotten it: nothing need be reported.
	hangUp struct {
		hub   hub.ID
		epoch uint64
		cause error // for the log, and the status if it is errViolation
	}
	// suspected: nothing has come on the link of that epoch for suspectTime; who waits for an answer need not wait on.
	suspected struct {
		hub   hub.ID
		epoch uint64
	}
	// request: send it on the Control stream of that epoch.
	request struct {
		hub     hub.ID
		epoch   uint64
		message *peerv1.ControlRequest
	}
)

// Effects on links that other hubs dialled.
type (
	// accept: answer the hello; lanes of that epoch may open.
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
	// fence: end the Control and Data streams of that epoch, wait until their loops are over, and call core.handleLinkEnd.
	fence struct {
		hub   hub.ID
		epoch uint64
		cause error // for the log, and the status if it is errViolation
	}
	// response: send it on the Control stream of that epoch.
	response struct {
		hub     hub.ID
		epoch   uint64
		message *peerv1.ControlResponse
	}
)

// Effects for the hub itself.
type (
	// inForce: the call that began with core.addReference may return.
	inForce struct{ call uint64 }
	// gone: the peer is no member any more.
	gone struct{ hub hub.ID }
	// ready: every hub that was listed knows this one, but for those without, which had 15 s; backends may come.
	ready struct{ without []hub.ID }
	// forgotten: other hubs may have forgotten this one. From now on nothing may reach its clients: they are to be closed, and
	// another hub is to take its place. The core says farewell to each hub that dials it.
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
