package edge

import (
	"fmt"
	"math"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/netpoll"
)

// deflateSlack is the factor by which a compressed message may exceed the limit of a message:
// deflate adds bytes to data that it can't compress.
const deflateSlack = 2

// takeFrame takes input of a single frame, whatever coder/websocket asks for: behind a frame the
// link may have to stop reading. A small frame at the beginning of a message must be complete
// before coder/websocket sees it. So it can wait in the socket, without a goroutine. takeFrame
// returns 0 and no error if more input has come. A message may have most bytes.
func (i *inbound) takeFrame(s *netpoll.Socket, most int64, b []byte) (int, error) {
	if i.size == 0 {
		have := s.Buffered()
		f, ok := frame.ParseHeader(have)
		if !ok || !i.fragmented && mayWait(f, have, s.BufferSize()) {
			return 0, s.Fill(i.fragmented)
		}
		if err := i.admitFrame(f, most); err != nil {
			return 0, err
		}
		i.size = f.Size
		if i.deflated && (f.Opcode == frame.Text || f.Opcode == frame.Binary) {
			frame.ClearCompressed(have) // coder/websocket gives the payload out as it is
		}
		if f.Opcode.Control() {
			i.control = true
		} else {
			i.fragmented = !f.Final
		}
	}
	n, err := s.Read(b[:min(uint64(len(b)), i.size)])
	i.size -= uint64(n)
	if i.size == 0 && !i.fragmented {
		s.EndMessage()
	}
	return n, err
}

// hasBegun reports whether coder/websocket has a part of a message, or of a frame.
func (i *inbound) hasBegun() bool { return i.size > 0 || i.fragmented }

// mayWait reports whether a frame, of which the link has a part, may wait in the socket for the
// rest. That is a small frame, unless it is text that can't be UTF-8 any more.
func mayWait(f frame.Header, have []byte, bufferSize int) bool {
	if f.Size <= uint64(len(have)) || f.Size > uint64(bufferSize) {
		return false
	}
	if f.Opcode != frame.Text || f.Compressed {
		return true
	}
	_, ok := validPrefix(f.AppendPayload(nil, have))
	return ok
}

// admitFrame judges a frame by its header, before its payload is read. It counts the frame, or
// returns a Violation. It passes frames that coder/websocket refuses by itself.
func (i *inbound) admitFrame(f frame.Header, mostBytes int64) error {
	length := f.Size - uint64(f.Start)
	switch {
	case !f.Minimal:
		return &Violation{notMinimal}
	case f.Opcode.Control(), f.Size > math.MaxInt64:
		return nil
	case f.Opcode != frame.Continuation:
		i.messageBytes, i.deflated = 0, f.Compressed && i.inflates
	}
	most := uint64(mostBytes)
	if i.deflated {
		most *= deflateSlack
	}
	if length > most-min(most, i.messageBytes) {
		return &Violation{tooBig(mostBytes)}
	}
	i.messageBytes += length
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
