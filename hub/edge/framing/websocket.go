package framing

import (
	"slices"
	"strconv"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/protocol"
)

// webSocket has each message in a single frame.
type webSocket struct{ Base }

// numberedWebSocket is webSocket for a protocol.Numbered. The shared bytes are the end of a frame.
type numberedWebSocket struct {
	Base

	numbering protocol.Numbering
}

var (
	_ Framed       = (*webSocket)(nil)
	_ Framed       = (*numberedWebSocket)(nil)
	_ hub.Numbered = (*numberedWebSocket)(nil)
)

// WebSocket joins p with the frames of a WebSocket (RFC 6455 §5.2), each message in a single frame.
func WebSocket(p protocol.Protocol) Framed {
	if n, ok := p.(protocol.Numbered); ok {
		return &numberedWebSocket{NewBase(p, appendFrame), n.Numbering()}
	}
	return &webSocket{NewBase(p, appendFrame)}
}

// opcodeOf returns the opcode of a message.
func opcodeOf(kind hub.PayloadKind) frame.Opcode {
	if kind.IsText() {
		return frame.Text
	}
	return frame.Binary
}

// appendFrame appends a whole message as a frame.
func appendFrame(dst []byte, kind hub.PayloadKind, message []byte) []byte {
	return frame.Append(slices.Grow(dst, frame.MaxHeader+len(message)), opcodeOf(kind), message)
}

// headroom is the room for a header, which is written last: it depends on the length of the
// message. Its capacity is full, so an append to it makes a copy.
var headroom = make([]byte, frame.MaxHeader)

// Encode returns m in a frame.
func (w *webSocket) Encode(m *hub.Message, r hub.Route) []byte {
	b, kind := w.AppendMessage(headroom, m, r)
	return frameInPlace(b, kind)
}

// frameInPlace returns the frame with a message that stands behind headroom, in the same memory.
func frameInPlace(b []byte, kind hub.PayloadKind) []byte {
	length := len(b) - len(headroom)
	if length == 0 { // b is headroom itself
		return frame.AppendHeader(nil, opcodeOf(kind), true, 0)
	}
	var onStack [frame.MaxHeader]byte
	return placeHeader(b, frame.AppendHeader(onStack[:0], opcodeOf(kind), true, length))
}

// placeHeader puts a header right in front of a message that stands behind headroom.
func placeHeader(b, header []byte) []byte {
	b = b[len(headroom)-len(header):]
	copy(b, header)
	return b
}

// Encode returns the bytes that all connections share.
func (w *numberedWebSocket) Encode(m *hub.Message, r hub.Route) []byte {
	b, _ := w.AppendMessage(nil, m, r)
	return b
}

// mostDigits is the most digits of a sequence id.
const mostDigits = 20

// AppendPrefix appends the header of the frame, and the message's own part with the sequence id.
func (w *numberedWebSocket) AppendPrefix(dst []byte, sequence uint64, shared []byte) []byte {
	n := &w.numbering
	var onStack [mostDigits]byte
	digits := strconv.AppendUint(onStack[:0], sequence, 10)
	dst = frame.AppendHeader(dst, opcodeOf(n.Kind), true,
		len(n.Before)+len(digits)+len(n.After)+len(shared))
	return append(append(append(dst, n.Before...), digits...), n.After...)
}
