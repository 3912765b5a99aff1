package framing

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"sync"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/protocol"
)

// DeflateVariant stands behind a protocol's name in snapshots of connections whose links are
// compressed. No name of a subprotocol has a semicolon.
const DeflateVariant = ";permessage-deflate"

// minCompressed is the least size of a message, in bytes, that is compressed. Without the window of
// earlier messages a smaller message hardly shrinks, and compressing it costs microseconds.
const minCompressed = 256

// deflated is webSocket with compressed messages. No frame depends on the earlier frames of a
// connection, so a message is compressed once for all connections that agreed.
type deflated struct {
	Base

	compressor
}

// numberedDeflated is deflated for a protocol.Numbered, whose prefix and shared bytes must make a
// single final frame. The prefix differs between connections, so it can't be compressed with the
// shared bytes. It is put in front as a stored block (RFC 1951 §3.2.4). The blocks of the shared
// bytes refer to nothing before them, so they stand behind it unchanged.
type numberedDeflated struct {
	Base

	compressor
	numbering protocol.Numbering
}

var (
	_ Framed       = (*deflated)(nil)
	_ Framed       = (*numberedDeflated)(nil)
	_ hub.Numbered = (*numberedDeflated)(nil)
)

// Deflate joins p with the frames of a WebSocket that agreed to permessage-deflate without context
// takeover (RFC 7692). Messages of at least 256 bytes are compressed, if that makes them smaller.
// Greeting, replies and goodbye are not compressed: they are short, and each belongs to a single
// connection.
//
// Each compression calls count with the bytes of the message before and after, from any goroutine.
func Deflate(p protocol.Protocol, count func(plain, compressed int)) Framed {
	base, c := NewBase(p, appendFrame), compressor{count}
	if n, ok := p.(protocol.Numbered); ok {
		return &numberedDeflated{base, c, n.Numbering()}
	}
	return &deflated{base, c}
}

// Variant returns the protocol's name with DeflateVariant. See hub.Protocol.
func (d *deflated) Variant() string { return d.Name() + DeflateVariant }

// Variant returns the protocol's name with DeflateVariant. See hub.Protocol.
func (d *numberedDeflated) Variant() string { return d.Name() + DeflateVariant }

// Encode returns m in a frame, compressed if it becomes smaller.
func (d *deflated) Encode(m *hub.Message, r hub.Route) []byte {
	b, kind := d.AppendMessage(headroom, m, r)
	small := d.appendCompressed(headroom, b[len(headroom):])
	if small == nil {
		return frameInPlace(b, kind)
	}
	var onStack [frame.MaxHeader]byte
	return placeHeader(small,
		frame.AppendCompressedHeader(onStack[:0], opcodeOf(kind), len(small)-len(headroom)))
}

// Encode returns the compressed blocks of the bytes that all connections share.
func (d *numberedDeflated) Encode(m *hub.Message, r hub.Route) []byte {
	plain, _ := d.AppendMessage(nil, m, r)
	if b := d.appendCompressed(nil, plain); b != nil {
		return b
	}
	b := make([]byte, 0, len(plain)+storedHeader*(1+len(plain)/math.MaxUint16)+1)
	for piece := range slices.Chunk(plain, math.MaxUint16) {
		b = append(appendStoredHeader(b, len(piece)), piece...)
	}
	return append(b, endOfMessage)
}

// AppendPrefix puts the message's own part, with the sequence id, into a block of its own.
func (d *numberedDeflated) AppendPrefix(dst []byte, sequence uint64, shared []byte) []byte {
	n := &d.numbering
	var onStack [mostDigits]byte
	digits := strconv.AppendUint(onStack[:0], sequence, 10)
	length := len(n.Before) + len(digits) + len(n.After)
	dst = frame.AppendCompressedHeader(dst, opcodeOf(n.Kind), storedHeader+length+len(shared))
	dst = append(appendStoredHeader(dst, length), n.Before...)
	return append(append(dst, digits...), n.After...)
}

// compressor compresses messages and counts them.
type compressor struct {
	count func(plain, compressed int)
}

// appendCompressed appends the message compressed. It returns nil if that is not smaller.
func (c *compressor) appendCompressed(dst, message []byte) []byte {
	if len(message) < minCompressed {
		return nil
	}
	b := appendDeflated(dst, message)
	length := len(b) - len(dst)
	if length >= len(message) {
		return nil
	}
	c.count(len(message), length)
	return b
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
