package edge

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/internal/prefetch"
)

const (
	// parkedBuffer is the size in bytes of the buffer that a link borrows while it is read. Frames
	// that fit into it are read whole before coder/websocket sees them. net/http's buffer for a
	// request is no larger.
	parkedBuffer = 4 << 10
	// parkedLookahead is the size in bytes of the buffer of coder/websocket's own reader: the least
	// that bufio allows.
	parkedLookahead = 16
	// waitCost is the cost, in bytes of Config.InboundBytes, of a goroutine that waits in the
	// middle of a message.
	waitCost = 16 << 10
	// inflateCost is its additional cost when messages are compressed: coder/websocket's
	// decompressor.
	inflateCost = 44 << 10
)

// parked is a socket that has a goroutine only while there is work.
//
// Problem: a million silent links must not cost a million goroutines with their stacks and buffers.
// But coder/websocket reads from a net.Conn, which waits.
//
// Outline: a poller tells when there is input. Then a goroutine borrows a buffer, and lets
// coder/websocket read until no input is left. At the beginning of a frame, behind whole messages,
// readInput then returns errParked. After this error coder/websocket can go on as if it had not
// happened (canary_test.go pins that). coder/websocket gets a small frame only when it is complete;
// an incomplete small frame waits in stash. In the middle of a message of several frames, or of a
// large frame, the goroutine waits.
//
// Invariants:
//   - At most a single goroutine runs the link, by state. An event is never lost. It starts a
//     goroutine, or wakes the waiting goroutine, or makes the running goroutine look again before
//     it parks.
//   - Writes are made under the link's lock, and never wait. Bytes that the socket does not take
//     stay in left until it does.
//   - The goroutine that runs the link closes fd, under the link's lock. After that fd is not used.
type parked struct {
	link   *link
	poller *poller
	fd     int
	tls    *tls.Conn // nil: none
	sealed *sealed   // below tls
	slot   int32     // guarded by poller.mu

	state atomic.Uint32
	// hungUp is set when the client's half, or the socket, has ended. The event that told it may
	// have been the last event, because it also told of earlier data. So reads must go on until
	// they find the end.
	hungUp atomic.Bool
	awake  chan struct{} // tells the waiting goroutine; made when a goroutine first waits

	// Owned by the goroutine that runs the link.
	in         *parkedInput // borrowed
	stash      []byte       // an incomplete small frame, while no goroutine runs
	size       uint64       // bytes that are missing of the frame that is being given out
	fragmented bool         // a message has begun, and its last frame has not
	reprieved  bool         // due was put off, because there was input when the time was over
	limit      frameLimit
	held       int64 // bytes of the budget, for the waiting goroutine
	// Server.sinceStart when the begun message or frame must be complete; 0: none has begun
	due   time.Duration
	timer *time.Timer // fires at due; nil: not needed

	// Guarded by link.mu.
	left   *output // the bytes that the socket did not take; nil: none
	within int     // bytes of left in records that the socket has not taken completely
	closed bool
}

// The states of a parked link.
const (
	idle     uint32 = iota // no goroutine runs the link
	running                // a goroutine runs the link
	notified               // a goroutine runs the link, and an event came since it last looked
	waiting                // a goroutine waits for an event
)

// parkedInput is the buffer of a link while it is read.
type parkedInput struct {
	bytes [parkedBuffer]byte
	r, w  int // bytes[r:w] was read and not given out
	// the last read got less than it asked for: no more input until the next event
	drained bool
}

var parkedInputs = sync.Pool{New: func() any { return new(parkedInput) }}

// parkSocket takes over a TCP connection, or TLS on a TCP connection (NewTLSListener). It returns
// nil if it can't park conn.
func (s *Server) parkSocket(l *link, conn net.Conn, early []byte) socket {
	p := &parked{link: l, stash: early}
	if p.tls, _ = conn.(*tls.Conn); p.tls != nil {
		if p.sealed, _ = p.tls.NetConn().(*sealed); p.sealed == nil {
			return nil
		}
	}
	tcp, ok := unwrapSocket(conn).(*net.TCPConn)
	if !ok || s.config.GoroutinePerLink || len(early) > parkedBuffer {
		return nil
	}
	poller, err := s.sharedPoller()
	if err != nil {
		return nil
	}
	if p.fd, err = duplicateSocket(tcp); err != nil {
		return nil
	}
	p.poller = poller
	p.state.Store(running)
	if err := poller.addSocket(p); err != nil {
		_ = syscall.Close(p.fd)
		return nil
	}
	if p.sealed != nil {
		p.sealed.fd = p.fd
	}
	_ = tcp.Close() // Go's poller forgets the socket, and its memory is free
	return p
}

// duplicateSocket gives a socket a second descriptor.
func duplicateSocket(tcp *net.TCPConn) (int, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("duplicate socket: %w", err)
	}
	var fd uintptr
	var errno syscall.Errno
	err = raw.Control(func(original uintptr) {
		fd, _, errno = syscall.RawSyscall(syscall.SYS_FCNTL, original, syscall.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil {
		return 0, fmt.Errorf("duplicate socket: %w", err)
	}
	if errno != 0 {
		return 0, fmt.Errorf("duplicate socket: %w", errno)
	}
	return int(fd), nil
}

func (p *parked) runLink() {
	p.link.server.goroutines.Add(1) // until the link has ended, even while no goroutine runs it
	go func() {
		p.link.startServing()
		p.runUntilIdle()
	}()
}

// runUntilIdle runs the link until there is no work, or the link has ended.
func (p *parked) runUntilIdle() {
	for {
		p.borrowBuffer()
		ended := p.link.serveReadable()
		p.giveBackBuffer()
		if ended {
			p.link.server.goroutines.Done()
			return
		}
		if p.state.CompareAndSwap(running, idle) {
			return
		}
		p.state.Store(running)
	}
}

func (p *parked) borrowBuffer() {
	p.in = parkedInputs.Get().(*parkedInput)
	p.in.r, p.in.w, p.in.drained = 0, copy(p.in.bytes[:], p.stash), false
	p.stash = nil
}

// giveBackBuffer returns the buffer to the pool. It keeps an incomplete frame in stash, for no
// longer than MessageTimeout.
func (p *parked) giveBackBuffer() {
	p.awake = nil
	if p.in.w > p.in.r && !p.link.over {
		p.stash = bytes.Clone(p.in.bytes[p.in.r:p.in.w])
		p.startClock()
		limit := p.due - p.link.server.sinceStart()
		if p.timer == nil {
			p.timer = time.AfterFunc(limit, p.notifyReadable)
		} else {
			p.timer.Reset(limit)
		}
	} else if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	parkedInputs.Put(p.in)
	p.in = nil
}

func (p *parked) startClock() {
	if s := p.link.server; p.due == 0 {
		p.due, p.reprieved = s.sinceStart()+s.config.MessageTimeout, false
	}
}

// notifyReadable tells the link that there may be input, or that it must check itself.
func (p *parked) notifyReadable() {
	for {
		switch p.state.Load() {
		case idle:
			if p.state.CompareAndSwap(idle, running) {
				go p.runUntilIdle()
				return
			}
		case running:
			if p.state.CompareAndSwap(running, notified) {
				return
			}
		case waiting:
			if p.state.CompareAndSwap(waiting, running) {
				p.awake <- struct{}{}
				return
			}
		case notified:
			return
		}
	}
}

// clearNotified forgets events before a look at the socket. It reports whether there were any.
func (p *parked) clearNotified() bool { return p.state.CompareAndSwap(notified, running) }

func (p *parked) lookaheadSize() int { return parkedLookahead }

func (p *parked) readInput(b []byte) (int, error) {
	for {
		if n, err := p.giveOut(b); n > 0 || err != nil {
			return n, err
		}
		if err := p.fillBuffer(); err != nil {
			return 0, err
		}
	}
}

// giveOut copies the bytes that coder/websocket may see: bytes of a single frame. A small frame at
// the beginning of a message must be complete.
func (p *parked) giveOut(b []byte) (int, error) {
	have := p.in.bytes[p.in.r:p.in.w]
	if p.size == 0 {
		f, ok := frame.ParseHeader(have)
		if !ok || f.Size > uint64(len(have)) && f.Size <= parkedBuffer && !p.fragmented &&
			mayBecomeText(f, have) {
			return 0, nil
		}
		if err := p.limit.admitFrame(f, p.link); err != nil {
			return 0, err
		}
		p.size = f.Size
		if !f.Opcode.Control() {
			p.fragmented = !f.Final
		}
	}
	n := copy(b, have[:min(uint64(len(have)), p.size)])
	p.in.r += n
	p.size -= uint64(n)
	if p.size == 0 && !p.fragmented {
		p.due = 0
	}
	return n, nil
}

// mayBecomeText reports false for the beginning of a text frame that can't be UTF-8. Then the link
// need not wait for the rest.
func mayBecomeText(f frame.Header, have []byte) bool {
	if f.Opcode != frame.Text || f.Compressed {
		return true
	}
	_, ok := validPrefix(f.AppendPayload(nil, have))
	return ok
}

// fillBuffer reads from the socket into the buffer.
func (p *parked) fillBuffer() error {
	in := p.in
	in.w = copy(in.bytes[:], in.bytes[in.r:in.w])
	in.r = 0
	for {
		if p.clearNotified() {
			in.drained = false
		}
		if p.isReadEnded() {
			break
		}
		if p.link.isRevoked() {
			return outOfBudget()
		}
		overdue := p.isOverdue()
		if overdue && p.reprieved {
			break
		}
		if !in.drained || overdue { // read all arrived bytes before the verdict
			if n, err := p.readSome(overdue); n > 0 || err != nil {
				return err
			}
		}
		if overdue {
			break
		}
		if p.size == 0 && !p.fragmented {
			return errParked
		}
		if err := p.waitForEvent(); err != nil {
			return err
		}
	}
	p.link.readErr = os.ErrDeadlineExceeded
	return p.link.readErr
}

// readSome reads once, without waiting. If it gets bytes of an overdue message, it puts the
// deadline off.
func (p *parked) readSome(overdue bool) (int, error) {
	in := p.in
	room := in.bytes[in.w:]
	n, blocked, err := p.readAvailable(room)
	in.w += n
	in.drained = blocked || n < len(room) && p.tls == nil && !p.hungUp.Load()
	if n > 0 {
		p.link.noteLife()
	}
	if n > 0 && overdue {
		p.due, p.reprieved = p.link.server.sinceStart()+reprieve, true
	}
	if _, ours := errors.AsType[*Violation](err); err != nil && !ours {
		p.link.readErr = err
	}
	return n, err
}

// readAvailable reads without waiting. blocked means that there is no input now.
func (p *parked) readAvailable(b []byte) (n int, blocked bool, err error) {
	if p.tls == nil {
		n, blocked, err = readSocket(p.fd, b)
		if !blocked {
			err = endOfFile(n, err)
		}
		return n, blocked, err
	}
	n, err = p.tls.Read(b)
	if p.sealed.unflushedSize() > 0 && !p.flushOwn() {
		return n, false, &Violation{unreadRecords}
	}
	if errors.Is(err, errAgain) {
		return 0, true, nil
	}
	return n, false, err //nolint:wrapcheck // is the socket
}

// unreadRecords closes a link whose client makes TLS answer, by asking for new keys, and does not
// read the answers.
var unreadRecords = cause.CloseStatus{
	Cause:  cause.Slow,
	Code:   cause.Slow.CloseStatus().Code,
	Reason: "too slow: answers of TLS are not read",
}

// flushOwn writes the records that TLS makes by itself, without an output. It returns false if more
// than maxPending bytes of them wait. Unlike pongs, they can't be dropped.
func (p *parked) flushOwn() bool {
	l := p.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return true
	}
	_, blocked, err := p.sealed.flushRecords()
	if p.sealed.unflushedSize() > 0 && !l.writing {
		o := newOutput(l)
		o.blocked = blocked && err == nil // after an error the writing goroutine finds it again
		l.writing = true
		p.handOverLocked(o)
	}
	most := maxPending
	if p.within > 0 {
		most += sealedKept // the records of an output
	}
	return p.sealed.unflushedSize() <= most
}

// isReadEnded reports whether coder/websocket reads no more.
func (p *parked) isReadEnded() bool {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	return p.link.readEnded
}

// isOverdue reports whether the deadline of the begun message is over.
func (p *parked) isOverdue() bool {
	return p.due != 0 && p.link.server.sinceStart() >= p.due
}

// waitForEvent waits for an event, in the middle of a message.
func (p *parked) waitForEvent() error {
	l := p.link
	if p.held == 0 {
		cost := int64(waitCost)
		if l.compressed {
			cost += inflateCost
		}
		if !l.reserveBudget(cost) {
			return outOfBudget()
		}
		p.held = cost
	}
	p.startClock()
	if p.awake == nil {
		p.awake = make(chan struct{}, 1)
	}
	if !p.state.CompareAndSwap(running, waiting) {
		return nil // there was an event already
	}
	late := time.NewTimer(p.due - l.server.sinceStart())
	defer late.Stop()
	select {
	case <-p.awake:
	case <-late.C:
		if !p.state.CompareAndSwap(waiting, running) {
			<-p.awake
		}
	}
	p.in.drained = false
	return nil
}

func (p *parked) readableBytes() int {
	return int(min(uint64(p.in.w-p.in.r), p.size))
}

func (p *parked) showsLife() (yes bool) {
	p.withOpenSocket(func() {
		readable, writable := pollSocket(p.fd)
		yes = readable || writable && p.left != nil && p.left.blocked
	})
	return yes
}

func (p *parked) messageDone() {
	p.link.releaseBudget(p.held)
	p.held = 0
}

func (p *parked) wakeReader() { p.notifyReadable() }

func (p *parked) discardInput() error {
	for {
		p.clearNotified()
		n, blocked, err := readSocket(p.fd, p.in.bytes[:])
		switch {
		case blocked:
			return errParked
		case err != nil || n == 0:
			return nil //nolint:nilerr // the end is what is waited for
		}
	}
}

func (p *parked) prefetchState() {
	prefetch.Line(unsafe.Pointer(&p.fd))
	prefetch.Line(unsafe.Pointer(&p.left))
}

func (p *parked) tryWriteLocked(o *output) (bool, error) {
	if p.tls == nil {
		o.writeAll(uintptr(p.fd))
		return o.isAllSent(), o.err
	}
	for {
		if err := p.flushLocked(o); err != nil || o.blocked {
			return false, err
		}
		if o.isAllSent() {
			return true, nil
		}
		rest := o.unsentPart()
		n, err := p.tls.Write(rest[:min(len(rest), writePiece)])
		if err != nil {
			return false, err //nolint:wrapcheck // is the socket
		}
		p.within = n
	}
}

// flushLocked writes waiting records. The bytes of o in them count as written when the socket has
// taken all records. Progress on a socket that was full is a sign of life: the client has read.
func (p *parked) flushLocked(o *output) error {
	waited := o.blocked
	n, blocked, err := p.sealed.flushRecords()
	o.blocked = blocked
	if n > 0 && waited {
		p.link.noteLife()
	}
	if err == nil && !blocked {
		o.noteSent(p.within)
		p.within = 0
	}
	return err
}

// handOverLocked keeps o until the socket takes more. If the socket would take more now, a
// goroutine goes on.
func (p *parked) handOverLocked(o *output) {
	p.left = o
	if !o.blocked {
		p.link.server.goroutines.Go(p.writeOn)
	}
}

// notifyWritable tells the link that the socket takes more bytes. An event between a refused write
// and handOverLocked waits here for the link's lock.
func (p *parked) notifyWritable() {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	if p.left != nil { // then the link has not ended, and is counted
		p.link.server.goroutines.Go(p.writeOn)
	}
}

// writeOn writes left and all later bytes, as far as the socket takes them.
func (p *parked) writeOn() {
	for p.writeSome() {
		runtime.Gosched() // further goroutines may wait for this link's lock
	}
}

// writeSome does up to inlineWrites writes, and reports whether there is more to write now.
func (p *parked) writeSome() bool {
	l := p.link
	l.mu.Lock()
	defer l.unlockAndPart()
	for range inlineWrites {
		if p.left == nil {
			return false
		}
		l.server.metrics.async.Inc()
		done, err := p.tryWriteLocked(p.left)
		if err != nil {
			l.markBrokenLocked()
		}
		if err == nil && !done {
			return false
		}
		if !l.nextOutputLocked(p.left) {
			p.left.recycleOutput()
			p.left, l.writing = nil, false
			return false
		}
	}
	return true
}

func (p *parked) halfClose() bool {
	p.sayGoodbye()
	p.shutdownSocket(syscall.SHUT_WR)
	return true
}

func (p *parked) hangUp() {
	p.sayGoodbye()
	p.shutdownSocket(syscall.SHUT_RDWR)
}

// sayGoodbye ends TLS, if the socket takes its last record.
func (p *parked) sayGoodbye() {
	if p.tls != nil {
		p.withOpenSocket(func() {
			_ = p.tls.CloseWrite()
			_, _, _ = p.sealed.flushRecords()
		})
	}
}

// abortSocket makes the goroutine that runs the link find the end.
func (p *parked) abortSocket(reset bool) {
	if reset {
		p.withOpenSocket(func() {
			_ = syscall.SetsockoptLinger(p.fd, syscall.SOL_SOCKET, syscall.SO_LINGER,
				&syscall.Linger{Onoff: 1})
		})
	}
	p.shutdownSocket(syscall.SHUT_RDWR)
}

func (p *parked) shutdownSocket(how int) {
	p.withOpenSocket(func() { _ = syscall.Shutdown(p.fd, how) })
}

// withOpenSocket calls do under the link's lock, unless the socket is closed.
func (p *parked) withOpenSocket(do func()) {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	if !p.closed {
		do()
	}
}

func (p *parked) closeSocket() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.messageDone()
	l := p.link
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true // nothing is written any more
	if p.left != nil {
		p.left.recycleOutput()
		p.left, l.writing = nil, false
	}
	p.closed = true
	if p.sealed != nil {
		p.sealed.dropRecords()
	}
	p.poller.removeSocket(p)
	_ = syscall.Close(p.fd)
}
