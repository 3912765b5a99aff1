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

// minCompressed is the least payload of a frame that is compressed. Without the window of earlier messages a smaller one
// hardly shrinks, and each costs microseconds.
const minCompressed = 256

// deflated is a Protocol whose frames are compressed (RFC 7692, permessage-deflate, without context takeover): once for all
// connections that have agreed to it, since no frame depends on what a connection got before. To the hub it is a protocol of its
// own, so that messages are encoded, and shared, for it apart.
//
// Greetings go as they are: they are short, and each is one connection's.
type deflated struct {
	Protocol

	metrics *metrics
}

// deflatedGreeter is deflated for a hub.Greeter.
type deflatedGreeter struct {
	deflated
	hub.Greeter
}

// deflatedNumbered is deflated for a hub.Numbered, whose prefix and shared bytes must make one final frame. What is before
// the shared bytes differs from connection to connection and can't be compressed with them: it is put in front as a stored
// block (RFC 1951 §3.2.4), behind which their blocks, which refer to nothing before, stand as they are.
type deflatedNumbered struct {
	deflated

	numbered hub.Numbered
}

var (
	_ Protocol     = deflated{}
	_ hub.Greeter  = deflatedGreeter{}
	_ hub.Numbered = deflatedNumbered{}
)

// deflate returns p with its frames compressed.
func deflate(p Protocol, m *metrics) Protocol {
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

// Encode compresses each frame that is a whole message and gains by it.
func (d deflated) Encode(m *hub.Message, r hub.Route) []byte {
	plain := d.Protocol.Encode(m, r)
	var smaller []byte // nil: nothing has become smaller
	done := 0          // of plain, what is in smaller
	for at := 0; at < len(plain); {
		f, ok := frame.ParseHeader(plain[at:])
		if !ok || f.Size > uint64(len(plain)-at) {
			return plain // not of frames: not ours to judge
		}
		end := at + int(f.Size)
		if f.Final && f.Opcode != frame.Continuation && !f.Opcode.Control() {
			if b := d.compress(plain[at+f.Start : end]); b != nil {
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

// compress returns the payload compressed, nil when it does not gain.
func (d deflated) compress(payload []byte) []byte {
	if len(payload) < minCompressed {
		return nil
	}
	b := appendDeflated(nil, payload)
	if len(b) >= len(payload) {
		b = nil
	}
	d.count(payload, b)
	return b
}

func (d deflated) count(payload, compressed []byte) {
	if compressed != nil {
		d.metrics.uncompressed.Add(float64(len(payload)))
		d.metrics.compressed.Add(float64(len(compressed)))
	}
}

// Encode returns the blocks of what the messages of all connections share.
func (d deflatedNumbered) Encode(m *hub.Message, r hub.Route) []byte {
	plain := d.numbered.Encode(m, r)
	if b := d.compress(plain); b != nil {
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

// AppendGreeting is the protocol's.
func (d deflatedNumbered) AppendGreeting(dst []byte, info hub.Info, token string) []byte {
	return d.numbered.AppendGreeting(dst, info, token)
}

const (
	// storedHeader is the bytes before a stored block that begins at a byte (RFC 1951 §3.2.4).
	storedHeader = 5
	// endOfMessage begins the empty block at the end of a message, whose other four bytes are not sent (RFC 7692 §7.2.1).
	endOfMessage = 0x00
)

func appendStoredHeader(dst []byte, length int) []byte {
	dst = binary.LittleEndian.AppendUint16(append(dst, 0), uint16(length))
	return binary.LittleEndian.AppendUint16(dst, ^uint16(length))
}

// deflator is what compresses; pooled, for it takes more than half a megabyte.
type deflator struct {
	writer *flate.Writer
	out    bytes.Buffer
}

var deflators = sync.Pool{New: func() any {
	d := new(deflator)
	d.writer, _ = flate.NewWriter(&d.out, flate.BestSpeed) // fails for a wrong level only
	return d
}}

// appendDeflated appends a payload as RFC 7692 §7.2.1 has it.
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

// offersDeflate reports whether a client offers a compression that we can answer to: any permessage-deflate, except one that says
// something of our window (RFC 7692 §7.1).
func offersDeflate(h http.Header) bool {
	return slices.ContainsFunc(tokens(h, extension), func(offer string) bool {
		parts := strings.Split(offer, ";")
		seen := make(map[string]bool)
		for _, parameter := range parts[1:] {
			name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if seen[name] || !acceptable(name, strings.Trim(value, `"`)) {
				return false
			}
			seen[name] = true
		}
		return strings.TrimSpace(parts[0]) == "permessage-deflate"
	})
}

// acceptable reports whether an offer may have this parameter. What we don't know makes an offer void (§7.1).
func acceptable(name, value string) bool {
	bits, err := strconv.Atoi(value)
	inRange := err == nil && len(value) <= 2 && '1' <= value[0] && value[0] <= '9' && 8 <= bits && bits <= 15
	switch name {
	case "server_no_context_takeover", "client_no_context_takeover":
		return value == ""
	case "client_max_window_bits":
		return value == "" || inRange // whatever it is, we can read it
	default: // server_max_window_bits too: it must be answered, also where it is ours (§7.1.2.1), and coder/websocket does not
		return false
	}
}

// agree makes the request's header say what was chosen: coder/websocket answers to it.
func agree(h http.Header, compressed bool) {
	h.Del(extension)
	if compressed {
		h.Set(extension, "permessage-deflate; client_no_context_takeover; server_no_context_takeover")
	}
}
