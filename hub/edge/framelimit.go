package edge

import (
	"fmt"
	"math"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
)

// frameLimit judges the frames of a client by their headers, before their payload is read.
type frameLimit struct {
	begun      uint64 // bytes of payload in the frames of the message so far
	compressed bool   // the message is
}

// deflateSlack is how many times larger than its message a compressed one may be: deflate adds to what it can't compress.
const deflateSlack = 2

// admit notes a frame, or returns a Violation. What coder/websocket refuses by itself it leaves to it.
func (m *frameLimit) admit(f frame.Header, l *link) error {
	length := f.Size - uint64(f.Start)
	switch {
	case !f.Minimal:
		return &Violation{notMinimal}
	case f.Opcode.Control(), f.Size > math.MaxInt64:
		return nil
	case f.Opcode != frame.Continuation:
		m.begun, m.compressed = 0, f.Compressed && l.compressed
	}
	most := uint64(l.protocol.most)
	if m.compressed {
		most *= deflateSlack
	}
	if length > most-min(most, m.begun) {
		return &Violation{tooBig(l.protocol.most)}
	}
	m.begun += length
	return nil
}

// notMinimal is how a link ends whose client gives a length in more bytes than it needs.
var notMinimal = protocolClose("a frame's length has more bytes than it needs (RFC 6455, 5.2)")

// notInflated is how a link ends whose client sends what can't be unpacked: as a rule it uses what it sent before.
var notInflated = protocolClose("can't inflate: context takeover was not agreed to (RFC 7692, 7.1.1)")

// protocolClose is the close for a breach of RFC 6455, with its reason.
func protocolClose(reason string) cause.CloseStatus {
	how := cause.Protocol.CloseStatus()
	how.Reason = reason
	return how
}

// tooBig is how a link ends whose client's message has more bytes than it may.
func tooBig(most int64) cause.CloseStatus {
	how := cause.TooBig.CloseStatus()
	how.Reason = fmt.Sprintf("%s: more than %d bytes", how.Reason, most)
	return how
}

// TooBig is the Violation of a message whose payload has more than most bytes.
func TooBig(most int64) *Violation {
	how := cause.TooBig.CloseStatus()
	how.Reason = fmt.Sprintf("%s: more than %d bytes of payload", how.Reason, most)
	return &Violation{how}
}
