package frame

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// Opcode is the type of a frame (RFC 6455 §11.8).
type Opcode byte

// The opcodes of RFC 6455. The remaining values are reserved.
const (
	Continuation Opcode = 0x0
	Text         Opcode = 0x1
	Binary       Opcode = 0x2
	Close        Opcode = 0x8
	Ping         Opcode = 0x9
	Pong         Opcode = 0xA
)

// Control reports whether o is the opcode of a control frame. A control frame may stand between the
// fragments of a message (§5.5).
func (o Opcode) Control() bool { return o&0x8 != 0 }

const (
	// MaxHeader is the most bytes of a header without a mask (§5.2).
	MaxHeader = 10
	// MaxMaskedHeader is the most bytes of a header with a mask.
	MaxMaskedHeader = 14
	// MaxControl is the most bytes of payload in a control frame (§5.5).
	MaxControl = 125
	// MaxReason is the most bytes of reason in a close frame: MaxControl less the code (§5.5.1).
	MaxReason = MaxControl - 2

	finBit        = 0x80
	compressedBit = 0x40 // RSV1
	opcodeBits    = 0x0F
	maskBit       = 0x80

	length16 = 126 // as the length byte: two bytes of length follow
	length64 = 127 // as the length byte: eight bytes of length follow
)

// AppendHeader appends the header of an unmasked frame. length is the size of the payload in bytes.
// fin must be true for control frames and for the last fragment of a message, and false for the
// fragments before it.
func AppendHeader(dst []byte, o Opcode, fin bool, length int) []byte {
	first := byte(o) & opcodeBits
	if fin {
		first |= finBit
	}
	switch {
	case length < length16:
		return append(dst, first, byte(length))
	case length <= 0xFFFF:
		return binary.BigEndian.AppendUint16(append(dst, first, length16), uint16(length))
	default:
		return binary.BigEndian.AppendUint64(append(dst, first, length64), uint64(length))
	}
}

// AppendCompressedHeader appends the header of an unfragmented message with a compressed payload
// (RFC 7692 §6). length is the size of the compressed payload in bytes.
func AppendCompressedHeader(dst []byte, o Opcode, length int) []byte {
	at := len(dst)
	dst = AppendHeader(dst, o, true, length)
	dst[at] |= compressedBit
	return dst
}

// Append appends a whole frame, final and unmasked.
func Append(dst []byte, o Opcode, payload []byte) []byte {
	return append(AppendHeader(dst, o, true, len(payload)), payload...)
}

// AppendClose appends a close frame (§5.5.1). With code 0 the frame has no code and no reason. A
// reason longer than MaxReason is cut at the end of a character.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	if code == 0 {
		return AppendHeader(dst, Close, true, 0)
	}
	reason = cutText(reason, MaxReason)
	dst = AppendHeader(dst, Close, true, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, reason...)
}

// ParseClose returns the code and the reason of a close frame. Code 0: the frame has none.
// It reports false unless b is exactly a whole unmasked close frame.
func ParseClose(b []byte) (code uint16, reason string, ok bool) {
	if len(b) < 2 || b[0] != finBit|byte(Close) || b[1] > MaxControl || len(b) != 2+int(b[1]) {
		return 0, "", false
	}
	switch payload := b[2:]; len(payload) {
	case 0:
		return 0, "", true
	case 1:
		return 0, "", false
	default:
		return binary.BigEndian.Uint16(payload), string(payload[2:]), true
	}
}

// OpcodeOf returns the opcode of the frame that begins with first.
func OpcodeOf(first byte) Opcode { return Opcode(first & opcodeBits) }

// cutText shortens s to at most n bytes without splitting a character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Header is the parsed header of a frame.
type Header struct {
	Opcode     Opcode // the frame's type
	Final      bool   // this is the last fragment of its message
	Compressed bool   // RSV1: the payload is compressed (RFC 7692 §6)
	Minimal    bool   // the length is in its shortest form, as it must be (RFC 6455 §5.2)
	Start      int    // offset of the payload, in bytes
	Size       uint64 // bytes of the whole frame with its header; math.MaxUint64 if it overflows

	mask [4]byte // zero: not masked
}

// ClearCompressed clears RSV1 in the frame at the beginning of b.
func ClearCompressed(b []byte) { b[0] &^= compressedBit }

// ParseHeader parses the header of the frame at the beginning of b, masked or not. It reports false
// if b does not hold the whole header yet.
func ParseHeader(b []byte) (Header, bool) {
	if len(b) < 2 {
		return Header{}, false
	}
	f := Header{Opcode: OpcodeOf(b[0])}
	f.Final, f.Compressed = b[0]&finBit != 0, b[0]&compressedBit != 0
	length := uint64(b[1] &^ maskBit)
	f.Start, f.Minimal = 2, true
	switch {
	case length == length16 && len(b) >= 4:
		f.Start, length = 4, uint64(binary.BigEndian.Uint16(b[2:]))
		f.Minimal = length >= length16
	case length == length64 && len(b) >= 10:
		f.Start, length = 10, binary.BigEndian.Uint64(b[2:])
		f.Minimal = length > math.MaxUint16
	case length >= length16:
		return Header{}, false
	}
	if b[1]&maskBit != 0 {
		if len(b) < f.Start+len(f.mask) {
			return Header{}, false
		}
		f.Start += copy(f.mask[:], b[f.Start:])
	}
	f.Size = uint64(f.Start) + length
	if f.Size < length {
		f.Size = math.MaxUint64
	}
	return f, true
}

// AppendPayload appends the frame's payload, unmasked, as far as b holds it. b must begin with the
// frame.
func (f Header) AppendPayload(dst, b []byte) []byte {
	for i, c := range b[f.Start:min(uint64(len(b)), f.Size)] {
		dst = append(dst, c^f.mask[i%len(f.mask)])
	}
	return dst
}
