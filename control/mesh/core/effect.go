package core

import (
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// Effect is an order of the core to the shell. The shell carries out the effects of a peer in
// order, and the effects of different peers in any order.
type Effect interface{ isEffect() }

// Effects on links that this hub dials.
type (
	// Dial orders: open a Control stream to Address and send Hello. Then call Core.HandleLinked
	// with the answer, or Core.HandleDialFailure.
	Dial struct {
		Hub     hub.ID        // the peer to dial
		Address string        // host:port
		Hello   *peerv1.Hello // has the epoch of the link
	}
	// HangUp orders: end the streams, or the dial, of that epoch. The core has forgotten the link,
	// so the shell need not report its end.
	HangUp struct {
		Hub   hub.ID // the dialled peer
		Epoch uint64 // of the link
		Cause error  // for the log, and for the status if it is ErrViolation
	}
	// Suspected says that nothing has come on the link of that epoch for SuspectTime. Callers that
	// wait for the peer stop waiting.
	Suspected struct {
		Hub   hub.ID // the silent peer
		Epoch uint64 // of the link
	}
	// Request orders: send Message on the Control stream of that epoch.
	Request struct {
		Hub     hub.ID                 // the dialled peer
		Epoch   uint64                 // of the link
		Message *peerv1.ControlRequest // the shell must not change it
	}
)

// Effects on links that peers dialled.
type (
	// Accept orders: answer the hello. From now on lanes of that epoch may open.
	Accept struct {
		Hub   hub.ID        // the peer that dialled
		Hello *peerv1.Hello // the answer; has the epoch of the link
	}
	// Refuse orders: end the stream that brought the hello.
	Refuse struct {
		Hub    hub.ID               // the peer that dialled
		Epoch  uint64               // of its hello
		Reason peerv1.RefusalReason // for the peer
	}
	// Fence orders: end the Control and Data streams of that epoch, wait for their loops to end,
	// then call Core.HandleLinkEnd.
	Fence struct {
		Hub   hub.ID // the peer that dialled
		Epoch uint64 // of the link
		Cause error  // for the log, and for the status if it is ErrViolation
	}
	// Response orders: send Message on the Control stream of that epoch.
	Response struct {
		Hub     hub.ID                  // the peer that dialled
		Epoch   uint64                  // of the link
		Message *peerv1.ControlResponse // the shell must not change it
	}
)

// Effects on this hub itself.
type (
	// InForce says that the join of Core.AwaitInForce may return.
	InForce struct {
		Call uint64 // its number
	}
	// Gone says that the peer is no longer a member.
	Gone struct {
		Hub hub.ID // the peer
	}
	// Ready says that every listed hub knows this hub, so backends may come.
	Ready struct {
		Without []hub.ID // the exception: these hubs had 15 s
	}
	// Forgotten says that peers may have forgotten this hub. From now on no send may reach its
	// clients. The shell closes them, and another hub must take this hub's place. The core says
	// farewell to each hub that dials it.
	Forgotten struct {
		Cause error // wraps ErrForgotten
	}
)

func (Dial) isEffect()      {}
func (HangUp) isEffect()    {}
func (Suspected) isEffect() {}
func (Request) isEffect()   {}
func (Accept) isEffect()    {}
func (Refuse) isEffect()    {}
func (Fence) isEffect()     {}
func (Response) isEffect()  {}
func (InForce) isEffect()   {}
func (Gone) isEffect()      {}
func (Ready) isEffect()     {}
func (Forgotten) isEffect() {}
