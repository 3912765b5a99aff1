package edge

import (
	"fmt"
	"math"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
)

// frameLimit judges the frames of a client by their headers, before their payload is read.
type frameLimit struct {
	messageBytes uint64 // bytes of payload in the frames of the message so far
	compressed   bool   // the message is compressed
}

// deflateSlack is the factor by which a compressed message may exceed the limit of a message:
// deflate adds bytes to data that it can't compress.
const deflateSlack = 2

// admitFrame counts a frame, or returns a Violation. It passes frames that coder/websocket refuses
// by itself.
func (m *frameLimit) admitFrame(f frame.Header, l *link) error {
	length := f.Size - uint64(f.Start)
	switch {
	case !f.Minimal:
		return &Violation{notMinimal}
	case f.Opcode.Control(), f.Size > math.MaxInt64:
		return nil
	case f.Opcode != frame.Continuation:
		m.messageBytes, m.compressed = 0, f.Compressed && l.compressed
	}
	most := uint64(l.protocol.most)
	if m.compressed {
		most *= deflateSlack
	}
	if length > most-min(most, m.messageBytes) {
		return &Violation{tooBig(l.protocol.most)}
	}
	m.messageBytes += length
	return nil
}

// notMinimal closes a link whose client gives a length in more bytes than needed.
var notMinimal = protocolClose("a frame's length has more bytes than it needs (RFC 6455, 5.2)")

// notInflated closes a link whose client sends data that can't be inflated. As a rule such a client
// refers to its earlier messages.
var notInflated = protocolClose(
	"can't inflate: context takeover was not agreed to (RFC 7692, 7.1.1)")

// protocolClose returns the close for a breach of RFC 6455, with its reason.
func protocolClose(reason string) cause.CloseStatus {
	how := cause.Protocol.CloseStatus()
	how.Reason = reason
	return how
}

// tooBig returns the close for a client's message with more than most bytes.
func tooBig(most int64) cause.CloseStatus {
	how := cause.TooBig.CloseStatus()
	how.Reason = fmt.Sprintf("%s: more than %d bytes", how.Reason, most)
	return how
}

// TooBig returns the Violation of a message whose payload has more than most bytes.
func TooBig(most int64) *Violation {
	how := cause.TooBig.CloseStatus()
	how.Reason = fmt.Sprintf("%s: more than %d bytes of payload", how.Reason, most)
	return &Violation{how}
}
