package edge

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/frame"
)

// minCompressed is the least payload of a frame, in bytes, that is compressed. Without the window
// of earlier messages a smaller payload hardly shrinks, and compressing it costs microseconds.
const minCompressed = 256

// deflated is a Protocol whose frames are compressed (RFC 7692, permessage-deflate, without context
// takeover). No frame depends on the earlier frames of a connection, so a frame is compressed once
// for all connections that agreed. The hub sees a separate protocol, so it encodes and shares
// messages separately for it.
//
// Greetings are not compressed: they are short, and each belongs to a single connection.
type deflated struct {
	Protocol

	metrics *metrics
}

// deflatedGreeter is deflated for a hub.Greeter.
type deflatedGreeter struct {
	deflated
	hub.Greeter
}

// deflatedNumbered is deflated for a hub.Numbered, whose prefix and shared bytes must make a single
// final frame. The prefix differs between connections, so it can't be compressed with the shared
// bytes. It is put in front as a stored block (RFC 1951 §3.2.4). The blocks of the shared bytes
// refer to nothing before them, so they stand behind it unchanged.
type deflatedNumbered struct {
	deflated

	numbered hub.Numbered
}

var (
	_ Protocol     = deflated{}
	_ hub.Greeter  = deflatedGreeter{}
	_ hub.Numbered = deflatedNumbered{}
)

// compressProtocol returns p with its frames compressed.
func compressProtocol(p Protocol, m *metrics) Protocol {
	d := deflated{p, m}
	switch greets := p.(type) {
	case hub.Numbered:
		return deflatedNumbered{d, greets}
	case hub.Greeter:
		return deflatedGreeter{d, greets}
	default:
		return d
	}
}

// Encode compresses each frame that is a whole message and becomes smaller.
func (d deflated) Encode(m *hub.Message, r hub.Route) []byte {
	plain := d.Protocol.Encode(m, r)
	var smaller []byte // nil: no frame has become smaller
	done := 0          // bytes of plain that are in smaller
	for at := 0; at < len(plain); {
		f, ok := frame.ParseHeader(plain[at:])
		if !ok || f.Size > uint64(len(plain)-at) {
			return plain // not frames: passed on unchanged
		}
		end := at + int(f.Size)
		if f.Final && f.Opcode != frame.Continuation && !f.Opcode.Control() {
			if b := d.compressPayload(plain[at+f.Start : end]); b != nil {
				smaller = append(smaller, plain[done:at]...)
				smaller = append(frame.AppendCompressedHeader(smaller, f.Opcode, len(b)), b...)
				done = end
			}
		}
		at = end
	}
	if smaller == nil {
		return plain
	}
	return append(smaller, plain[done:]...)
}

// compressPayload returns the payload compressed, or nil if it does not become smaller.
func (d deflated) compressPayload(payload []byte) []byte {
	if len(payload) < minCompressed {
		return nil
	}
	b := appendDeflated(nil, payload)
	if len(b) >= len(payload) {
		b = nil
	}
	d.countBytes(payload, b)
	return b
}

func (d deflated) countBytes(payload, compressed []byte) {
	if compressed != nil {
		d.metrics.uncompressed.Add(float64(len(payload)))
		d.metrics.compressed.Add(float64(len(compressed)))
	}
}

// Encode returns the compressed blocks of the bytes that all connections share.
func (d deflatedNumbered) Encode(m *hub.Message, r hub.Route) []byte {
	plain := d.numbered.Encode(m, r)
	if b := d.compressPayload(plain); b != nil {
		return b
	}
	b := make([]byte, 0, len(plain)+storedHeader*(1+len(plain)/math.MaxUint16)+1)
	for piece := range slices.Chunk(plain, math.MaxUint16) {
		b = append(appendStoredHeader(b, len(piece)), piece...)
	}
	return append(b, endOfMessage)
}

// AppendPrefix puts the number into a block of its own.
func (d deflatedNumbered) AppendPrefix(dst []byte, sequence uint64, shared []byte) []byte {
	start := len(dst)
	dst = d.numbered.AppendPrefix(dst, sequence, shared)
	f, ok := frame.ParseHeader(dst[start:])
	if !ok {
		panic("edge: a numbered message is not one frame: " + d.Name())
	}
	var onStack [64]byte
	prefix := append(onStack[:0], dst[start+f.Start:]...)
	dst = frame.AppendCompressedHeader(dst[:start], f.Opcode, storedHeader+len(prefix)+len(shared))
	return append(appendStoredHeader(dst, len(prefix)), prefix...)
}

// AppendGreeting appends the protocol's greeting, uncompressed.
func (d deflatedNumbered) AppendGreeting(dst []byte, info hub.Info, token string) []byte {
	return d.numbered.AppendGreeting(dst, info, token)
}

const (
	// storedHeader is the bytes in front of a stored block that begins at a byte (RFC 1951 §3.2.4).
	storedHeader = 5
	// endOfMessage begins the empty block at the end of a message. The four remaining bytes of that
	// block are not sent (RFC 7692 §7.2.1).
	endOfMessage = 0x00
)

func appendStoredHeader(dst []byte, length int) []byte {
	dst = binary.LittleEndian.AppendUint16(append(dst, 0), uint16(length))
	return binary.LittleEndian.AppendUint16(dst, ^uint16(length))
}

// deflator compresses. It is pooled, because it takes more than half a megabyte.
type deflator struct {
	writer *flate.Writer
	out    bytes.Buffer
}

var deflators = sync.Pool{New: func() any {
	d := new(deflator)
	d.writer, _ = flate.NewWriter(&d.out, flate.BestSpeed) // fails for a wrong level only
	return d
}}

// appendDeflated appends the compressed payload in the form of RFC 7692 §7.2.1.
func appendDeflated(dst, payload []byte) []byte {
	d := deflators.Get().(*deflator)
	defer deflators.Put(d)
	d.out.Reset()
	d.writer.Reset(&d.out)
	_, _ = d.writer.Write(payload) // a bytes.Buffer takes everything
	_ = d.writer.Flush()
	const emptyBlock = "\x00\x00\xff\xff"
	return append(dst, bytes.TrimSuffix(d.out.Bytes(), []byte(emptyBlock))...)
}

// extension is the header in which client and server agree on compression.
const extension = "Sec-WebSocket-Extensions"

// offersDeflate reports whether a client offers a compression that the hub can agree to. That is
// any permessage-deflate that does not limit the hub's window (RFC 7692 §7.1).
func offersDeflate(h http.Header) bool {
	return slices.ContainsFunc(listTokens(h, extension), func(offer string) bool {
		parts := strings.Split(offer, ";")
		seen := make(map[string]bool)
		for _, parameter := range parts[1:] {
			name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if seen[name] || !isParameterAcceptable(name, strings.Trim(value, `"`)) {
				return false
			}
			seen[name] = true
		}
		return strings.TrimSpace(parts[0]) == "permessage-deflate"
	})
}

// isParameterAcceptable reports whether an offer may have this parameter. An unknown parameter
// makes an offer void (RFC 7692 §7.1).
func isParameterAcceptable(name, value string) bool {
	bits, err := strconv.Atoi(value)
	inRange := err == nil && len(value) <= 2 && '1' <= value[0] && value[0] <= '9' && 8 <= bits &&
		bits <= 15
	switch name {
	case "server_no_context_takeover", "client_no_context_takeover":
		return value == ""
	case "client_max_window_bits":
		return value == "" || inRange // the hub can read any window
	// server_max_window_bits is refused too. It must be answered, even with the hub's own size
	// (§7.1.2.1), and coder/websocket does not.
	default:
		return false
	}
}

// setAgreedExtension makes the request's header name the agreed compression: coder/websocket
// answers that header.
func setAgreedExtension(h http.Header, compressed bool) {
	h.Del(extension)
	if compressed {
		h.Set(extension,
			"permessage-deflate; client_no_context_takeover; server_no_context_takeover")
	}
}
