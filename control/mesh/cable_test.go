package mesh

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// cableBuffer is the capacity of a direction of a cable, as that of two kernels' buffers.
const cableBuffer = 64 << 10

// cable is an in-memory connection that can be stalled and cut. It lives in a synctest bubble: its
// users wait on a sync.Cond.
type cable struct {
	from, to    string // the addresses of the dialler and of the dialled hub
	forth, back half
}

// half is a direction of a cable.
type half struct {
	mu      sync.Mutex
	changed *sync.Cond
	bytes   []byte
	stalled bool // nothing comes out, not even the end
	over    bool // the writer has closed
	unread  bool // the reader has closed
	cut     bool

	readBy, writeBy time.Time
}

func newCable(from, to string) *cable {
	w := &cable{from: from, to: to}
	w.forth.changed, w.back.changed = sync.NewCond(&w.forth.mu), sync.NewCond(&w.back.mu)
	return w
}

func (h *half) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	h.changed.Broadcast()
}

// stall stops each given direction, or lets it flow.
func (w *cable) stall(forth, back bool) {
	w.forth.change(func() { w.forth.stalled = forth })
	w.back.change(func() { w.back.stalled = back })
}

// cut breaks the cable for both ends.
func (w *cable) cut() {
	w.forth.change(func() { w.forth.cut = true })
	w.back.change(func() { w.back.cut = true })
}

// over reports whether no end uses the cable any more.
func (w *cable) over() bool {
	w.forth.mu.Lock()
	defer w.forth.mu.Unlock()
	return w.forth.cut || w.forth.over
}

// held returns the bytes between the ends.
func (w *cable) held() int {
	w.forth.mu.Lock()
	defer w.forth.mu.Unlock()
	return len(w.forth.bytes)
}

func (h *half) read(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.unread:
			return 0, net.ErrClosed
		case h.cut:
			return 0, syscall.ECONNRESET
		case !h.readBy.IsZero() && !time.Now().Before(h.readBy):
			return 0, os.ErrDeadlineExceeded
		case h.stalled:
		case len(h.bytes) > 0:
			n := copy(b, h.bytes)
			h.bytes = h.bytes[n:]
			h.changed.Broadcast()
			return n, nil
		case h.over:
			return 0, io.EOF
		}
		h.changed.Wait()
	}
}

func (h *half) write(b []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch room := cableBuffer - len(h.bytes); {
		case h.over:
			return n, net.ErrClosed
		case h.cut || h.unread && !h.stalled:
			return n, syscall.EPIPE
		case !h.writeBy.IsZero() && !time.Now().Before(h.writeBy):
			return n, os.ErrDeadlineExceeded
		case len(b) == 0:
			return n, nil
		case room > 0:
			part := b[:min(room, len(b))]
			h.bytes = append(h.bytes, part...)
			b, n = b[len(part):], n+len(part)
			h.changed.Broadcast()
			continue
		}
		h.changed.Wait()
	}
}

// cableEnd is one end of a cable.
type cableEnd struct {
	in, out       *half
	local, remote cableAddr
}

var _ net.Conn = (*cableEnd)(nil)

func (e *cableEnd) Read(b []byte) (int, error)  { return e.in.read(b) }
func (e *cableEnd) Write(b []byte) (int, error) { return e.out.write(b) }

func (e *cableEnd) Close() error {
	e.in.change(func() { e.in.unread = true })
	e.out.change(func() { e.out.over = true })
	return nil
}

func (e *cableEnd) LocalAddr() net.Addr  { return e.local }
func (e *cableEnd) RemoteAddr() net.Addr { return e.remote }

func (e *cableEnd) SetDeadline(at time.Time) error {
	return errors.Join(e.SetReadDeadline(at), e.SetWriteDeadline(at))
}

func (e *cableEnd) SetReadDeadline(at time.Time) error {
	e.in.change(func() { e.in.readBy = at })
	e.in.wakeAt(at)
	return nil
}

func (e *cableEnd) SetWriteDeadline(at time.Time) error {
	e.out.change(func() { e.out.writeBy = at })
	e.out.wakeAt(at)
	return nil
}

func (h *half) wakeAt(at time.Time) {
	if !at.IsZero() {
		time.AfterFunc(time.Until(at), func() { h.change(func() {}) })
	}
}

// cableAddr distinguishes the cables that end at a hub.
type cableAddr struct{ cable *cable }

func (cableAddr) Network() string  { return "cable" }
func (a cableAddr) String() string { return a.cable.from }

// cableListener accepts the cables to an address.
type cableListener struct {
	accepted chan net.Conn
	closed   chan struct{}
	close    func()
}

var _ net.Listener = (*cableListener)(nil)

func newCableListener() *cableListener {
	l := &cableListener{accepted: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

func (l *cableListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *cableListener) Close() error   { l.close(); return nil }
func (l *cableListener) Addr() net.Addr { return cableAddr{&cable{}} }

// connect makes a cable to the listener.
func (l *cableListener) connect(ctx context.Context, w *cable) (net.Conn, error) {
	server := &cableEnd{in: &w.forth, out: &w.back, local: cableAddr{w}, remote: cableAddr{w}}
	select {
	case l.accepted <- server:
		return &cableEnd{in: &w.back, out: &w.forth, local: cableAddr{w}, remote: cableAddr{w}}, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
