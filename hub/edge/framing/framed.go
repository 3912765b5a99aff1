package framing

import (
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/protocol"
)

// Framed is a protocol with a framing, ready for the hub. It is a hub.Numbered if the protocol is a
// protocol.Numbered. The connections that shall share the bytes of messages need the same Framed,
// so a server makes each of them once.
type Framed interface {
	hub.Protocol

	// AppendGoodbye appends to dst the bytes of the protocol's last message on a link that closes,
	// in front of the framing's own end. They are none if the protocol has no goodbye.
	AppendGoodbye(dst []byte, how cause.CloseStatus) []byte
}

// AppendFunc appends a whole message to dst, as the bytes of a framing.
type AppendFunc func(dst []byte, kind hub.PayloadKind, message []byte) []byte

// Base is the part of a Framed that does not depend on how messages are shared. Types that embed it
// are used by pointer: Base is not comparable.
type Base struct {
	protocol.Protocol

	appendWhole AppendFunc
}

// NewBase returns the Base of p. appendWhole frames greeting, replies and goodbye.
func NewBase(p protocol.Protocol, appendWhole AppendFunc) Base { return Base{p, appendWhole} }

// AppendGreeting frames the protocol's greeting, if it has one.
func (b *Base) AppendGreeting(dst []byte, info hub.Info, token string) []byte {
	p, greets := b.Protocol.(protocol.Greeter)
	if !greets {
		return dst
	}
	message, kind := p.AppendGreeting(nil, info, token)
	return b.appendWhole(dst, kind, message)
}

// AppendReply frames an answer of the protocol.
func (b *Base) AppendReply(dst []byte, kind hub.PayloadKind, message []byte) []byte {
	return b.appendWhole(dst, kind, message)
}

// AppendGoodbye frames the protocol's goodbye, if it has one.
func (b *Base) AppendGoodbye(dst []byte, how cause.CloseStatus) []byte {
	p, tells := b.Protocol.(protocol.Goodbye)
	if !tells {
		return dst
	}
	message, kind := p.AppendGoodbye(nil, how)
	return b.appendWhole(dst, kind, message)
}
