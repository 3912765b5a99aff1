package testkit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Cable is an in-memory connection that a test can stall and cut. It may live in a testing/synctest
// bubble: its users wait on a sync.Cond. Its methods are safe for concurrent use.
//
// Tests use it in place of google.golang.org/grpc/test/bufconn, which calls time.AfterFunc(0, f)
// for each connection. In a bubble, Go 1.26 runs a timer whose time has come at once, on the system
// stack. Under the race detector this crashes the process now and then (SIGSEGV). So a Cable starts
// a timer only for a deadline in the future.
type Cable struct {
	// From and To name the dialler and the listener. They are fixed at NewCable.
	From, To string

	forth, back half
}

// half is a direction of a cable.
type half struct {
	capacity int // fixed at NewCable, in bytes

	mu      sync.Mutex
	changed *sync.Cond
	bytes   bytes.Buffer
	stalled bool // nothing comes out, not even the end
	over    bool // the writer has closed
	unread  bool // the reader has closed
	cut     bool

	readBy, writeBy *deadline // nil: none
}

// deadline is a time after which the reads or the writes of a direction fail. It is guarded by the
// direction's mu.
type deadline struct {
	passed bool
	timer  *time.Timer // nil: it had passed when it was set
}

// NewCable returns a cable for CableListener.Connect. Each of its directions holds at most capacity
// bytes, which must be positive: a write of more waits for a read.
func NewCable(from, to string, capacity int) *Cable {
	w := &Cable{From: from, To: to}
	for _, h := range []*half{&w.forth, &w.back} {
		h.capacity, h.changed = capacity, sync.NewCond(&h.mu)
	}
	return w
}

// Stall stops each given direction, or lets it flow: forth leads from the dialler to the listener.
// Writes to a stalled direction succeed until it is full.
func (w *Cable) Stall(forth, back bool) {
	w.forth.changeState(func() { w.forth.stalled = forth })
	w.back.changeState(func() { w.back.stalled = back })
}

// Cut breaks the cable for both ends: reads fail with ECONNRESET, writes with EPIPE.
func (w *Cable) Cut() {
	w.forth.changeState(func() { w.forth.cut = true })
	w.back.changeState(func() { w.back.cut = true })
}

// IsOver reports whether the cable was cut or the dialler has closed its end.
func (w *Cable) IsOver() bool {
	w.forth.mu.Lock()
	defer w.forth.mu.Unlock()
	return w.forth.cut || w.forth.over
}

// Held returns the number of bytes that the dialler has written and the listener has not read.
func (w *Cable) Held() int {
	w.forth.mu.Lock()
	defer w.forth.mu.Unlock()
	return w.forth.bytes.Len()
}

// splitEnds returns the ends of the dialler and of the listener.
func (w *Cable) splitEnds() (dialled, accepted net.Conn) {
	return &cableEnd{cable: w, in: &w.back, out: &w.forth},
		&cableEnd{cable: w, in: &w.forth, out: &w.back}
}

func (h *half) changeState(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	h.changed.Broadcast()
}

func (h *half) readBytes(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch {
		case h.unread:
			return 0, net.ErrClosed
		case h.cut:
			return 0, syscall.ECONNRESET
		case h.readBy.hasPassed():
			return 0, os.ErrDeadlineExceeded
		case h.stalled:
		case h.bytes.Len() > 0:
			h.changed.Broadcast()
			return h.bytes.Read(b)
		case h.over:
			return 0, io.EOF
		}
		h.changed.Wait()
	}
}

func (h *half) writeBytes(b []byte) (n int, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for {
		switch room := h.capacity - h.bytes.Len(); {
		case h.over:
			return n, net.ErrClosed
		case h.cut || h.unread && !h.stalled:
			return n, syscall.EPIPE
		case h.writeBy.hasPassed():
			return n, os.ErrDeadlineExceeded
		case len(b) == 0:
			return n, nil
		case room > 0:
			part := b[:min(room, len(b))]
			h.bytes.Write(part)
			b, n = b[len(part):], n+len(part)
			h.changed.Broadcast()
			continue
		}
		h.changed.Wait()
	}
}

// setDeadline replaces a deadline of h. The zero time means none.
func (h *half) setDeadline(of **deadline, at time.Time) {
	h.changeState(func() {
		(*of).stopTimer()
		*of = nil
		if !at.IsZero() {
			*of = h.newDeadline(at)
		}
	})
}

func (h *half) newDeadline(at time.Time) *deadline {
	d := &deadline{}
	wait := time.Until(at)
	if wait <= 0 { // no timer: the comment on Cable says why
		d.passed = true
		return d
	}
	d.timer = time.AfterFunc(wait, func() { h.changeState(func() { d.passed = true }) })
	return d
}

func (d *deadline) hasPassed() bool { return d != nil && d.passed }

func (d *deadline) stopTimer() {
	if d != nil && d.timer != nil {
		d.timer.Stop()
	}
}

// cableEnd is one end of a cable.
type cableEnd struct {
	cable   *Cable
	in, out *half
}

var _ net.Conn = (*cableEnd)(nil)

func (e *cableEnd) Read(b []byte) (int, error)  { return e.in.readBytes(b) }
func (e *cableEnd) Write(b []byte) (int, error) { return e.out.writeBytes(b) }

// Close stops the end's timers too. What it has written can still be read.
func (e *cableEnd) Close() error {
	e.in.changeState(func() { e.in.unread = true; e.in.readBy.stopTimer() })
	e.out.changeState(func() { e.out.over = true; e.out.writeBy.stopTimer() })
	return nil
}

func (e *cableEnd) LocalAddr() net.Addr  { return CableAddr{e.cable} }
func (e *cableEnd) RemoteAddr() net.Addr { return CableAddr{e.cable} }

func (e *cableEnd) SetDeadline(at time.Time) error {
	return errors.Join(e.SetReadDeadline(at), e.SetWriteDeadline(at))
}

func (e *cableEnd) SetReadDeadline(at time.Time) error {
	e.in.setDeadline(&e.in.readBy, at)
	return nil
}

func (e *cableEnd) SetWriteDeadline(at time.Time) error {
	e.out.setDeadline(&e.out.writeBy, at)
	return nil
}

// CableAddr is the address of both ends of a cable. It distinguishes the cables to a listener.
type CableAddr struct {
	// Cable is never nil.
	Cable *Cable
}

// Network implements net.Addr.
func (CableAddr) Network() string { return "cable" }

// String implements net.Addr. It returns the name of the dialler.
func (a CableAddr) String() string { return a.Cable.From }

// CableListener accepts cables. Its methods are safe for concurrent use.
type CableListener struct {
	capacity int // of the cables of DialContext
	accepted chan net.Conn
	closed   chan struct{}
	close    func()
}

var _ net.Listener = (*CableListener)(nil)

// ListenCable returns a listener. The directions of its cables hold at most capacity bytes each.
func ListenCable(capacity int) *CableListener {
	l := &CableListener{
		capacity: capacity, accepted: make(chan net.Conn), closed: make(chan struct{}),
	}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept waits for a cable and returns the listener's end. After Close it returns net.ErrClosed.
func (l *CableListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept, Connect and DialContext. Accepted cables stay. It may be called again.
func (l *CableListener) Close() error { l.close(); return nil }

// Addr implements net.Listener.
func (l *CableListener) Addr() net.Addr { return CableAddr{&Cable{From: "memory"}} }

// DialContext connects a new cable and returns the dialler's end. Its errors are those of Connect.
func (l *CableListener) DialContext(ctx context.Context) (net.Conn, error) {
	return l.Connect(ctx, NewCable("memory", "memory", l.capacity))
}

// Connect waits until the listener accepts a cable, and returns the dialler's end. A cable must be
// connected once. Connect returns ECONNREFUSED after Close, and the error of ctx when it ends.
func (l *CableListener) Connect(ctx context.Context, w *Cable) (net.Conn, error) {
	dialled, accepted := w.splitEnds()
	select {
	case l.accepted <- accepted:
		return dialled, nil
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
