package edge

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub/edge/opening"
)

const (
	// readersKept is how many idle readers a pool keeps. Few goroutines read at the same moment,
	// unless their protocols wait for something.
	readersKept = 64
	// controlGrace is how long after a control frame a reader may go to another link.
	// coder/websocket closes itself, from a goroutine of its own, if it handles a control frame for
	// longer than 5 s. The process may have been stopped meanwhile.
	controlGrace = time.Second
)

// readerPool lends readers to links. It is safe for concurrent use.
//
// It is no sync.Pool: a coder/websocket that is not closed stays in memory for ever, because it has
// a finalizer and refers to itself.
type readerPool struct {
	mu     sync.Mutex
	idle   []*reader // readersKept at most
	closed bool
}

// lendReader returns a reader for l. The caller calls takeBack or reader.discard.
func (p *readerPool) lendReader(l *link) *reader {
	r := p.pickIdle()
	if r == nil {
		r = newReader()
	}
	r.link, r.inflates = l, l.compressed
	return r
}

// pickIdle takes a reader out of the pool. It returns nil if the pool is empty.
func (p *readerPool) pickIdle() *reader {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.idle) - 1
	if last < 0 {
		return nil
	}
	r := p.idle[last]
	p.idle[last] = nil
	p.idle = p.idle[:last]
	return r
}

// takeBack keeps a reader for the next link. The reader must be between two messages.
func (p *readerPool) takeBack(r *reader) {
	r.releaseWait()
	if r.control && r.link.server.sinceStart()-r.controlAt >= controlGrace {
		r.link = nil
		r.discard()
		return
	}
	r.link, r.inbound = nil, inbound{}
	if !p.putIdle(r) {
		r.discard()
	}
}

// putIdle puts a reader into the pool. It returns false if there is no room.
func (p *readerPool) putIdle(r *reader) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || len(p.idle) >= readersKept {
		return false
	}
	p.idle = append(p.idle, r)
	return true
}

// closePool discards all idle readers, and each that comes back later.
func (p *readerPool) closePool() {
	p.mu.Lock()
	idle := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, r := range idle {
		r.discard()
	}
}

// discard ends a reader. If it has a link, the link reads no more.
func (r *reader) discard() {
	r.releaseWait()
	_ = r.ws.CloseNow() // or its finalizer would keep it; after this it does not touch the wire
}

// newReader returns a reader without a link. coder/websocket makes a server's side only in answer
// to a request, so it gets one from here. It knows no compression: wire hides that from it, and the
// reader inflates the payloads itself.
func newReader() *reader {
	r := &reader{}
	asks := &http.Request{
		Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"},
			"Sec-Websocket-Version": {opening.Version},
			"Sec-Websocket-Key":     {"AAAAAAAAAAAAAAAAAAAAAA=="},
		},
	}
	ws, err := websocket.Accept(&wireHijacker{http.Header{}, r}, asks, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // there is no origin
		OnPongReceived: func(_ context.Context, payload []byte) {
			r.link.receivePong(payload)
		},
	})
	if err != nil {
		panic(err) // can't happen: the request is well-formed, and is the same each time
	}
	ws.SetReadLimit(-1) // admitFrame bounds messages
	r.ws = ws
	r.buffered.Reset((*wire)(r)) // coder/websocket has put an empty reader in front of the wire
	return r
}

const (
	// writeBuffer is the size in bytes of coder/websocket's writer. It must hold the longest
	// control frame (127 bytes), so each control frame comes as a single Write. wire.Write relies
	// on that.
	writeBuffer = 128
	// lookahead is the size in bytes of the buffer of coder/websocket's reader: the least that
	// bufio allows. The socket has a buffer of its own.
	lookahead = 16
)

// wireHijacker is the response writer that gives coder/websocket the wire of a reader. It drops the
// answer.
type wireHijacker struct {
	header http.Header
	reader *reader
}

var _ http.Hijacker = (*wireHijacker)(nil)

// Header implements http.ResponseWriter.
func (w *wireHijacker) Header() http.Header { return w.header }

// Write implements http.ResponseWriter.
func (w *wireHijacker) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader implements http.ResponseWriter.
func (w *wireHijacker) WriteHeader(int) {}

// Hijack returns the wire, with buffers of the right size.
func (w *wireHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	wire := (*wire)(w.reader)
	w.reader.buffered = bufio.NewReaderSize(wire, lookahead)
	return wire, bufio.NewReadWriter(w.reader.buffered, bufio.NewWriterSize(wire, writeBuffer)), nil
}
