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
	// parkedBuffer is what a link that is being read borrows. Frames that fit into it are read whole before coder/websocket
	// sees them; net/http's buffer for a request is no larger.
	parkedBuffer = 4 << 10
	// parkedLookahead is what coder/websocket's reader has for itself: the least that bufio has.
	parkedLookahead = 16
	// waitCost is what the goroutine costs that waits in the middle of a message, out of Config.InboundBytes.
	waitCost = 16 << 10
	// inflateCost is what it has besides when messages are compressed: coder/websocket's decompressor.
	inflateCost = 44 << 10
)

// parked is a socket that has a goroutine only while there is something to do.
//
// Problem: a million silent links must not cost a million goroutines with their stacks and buffers; but
// coder/websocket reads from a net.Conn, which waits.
//
// Outline: a poller tells when there is something to read. Then a goroutine borrows a buffer, and lets coder/websocket read until
// nothing is left: read returns errParked at the beginning of a frame, behind whole messages, an error after which coder/websocket
// can go on as if nothing had been (canary_test.go pins that). A small frame is given to it only when all of it is there;
// what there is of one waits in stash. In the middle of a message of several frames, or of a large one, the goroutine waits.
//
// Invariants:
//   - state says who runs the link: at most one goroutine. An event is never lost: it starts one, wakes the one that waits, or
//     has the one that runs look again before it parks.
//   - Writes are made under the link's lock, and never wait. What the socket does not take stays in left until it does.
//   - fd is closed under the link's lock, by the goroutine that runs the link, and after that used by nobody.
type parked struct {
	link   *link
	poller *poller
	fd     int
	tls    *tls.Conn // nil: none
	sealed *sealed   // below tls
	slot   int32     // guarded by poller.mu

	state atomic.Uint32
	// hungUp: the client's half, or the socket, has ended. The event that told it may have been the one that told of the data before,
	// so there may be no other.
	hungUp atomic.Bool
	awake  chan struct{} // tells the goroutine that waits; made when one does

	// Owned by the goroutine that runs the link.
	in         *parkedInput // borrowed
	stash      []byte       // of a frame that is not whole, while nobody runs
	size       uint64       // of the frame that is being given out: what is missing of it
	fragmented bool         // a message has begun whose last frame has not
	reprieved  bool         // due was put off, because there was input when the time was over
	limit      frameLimit
	held       int64         // of the budget, by the goroutine that waits
	due        time.Duration // Server.now when what has begun must be whole, a message or a frame; 0: nothing has
	timer      *time.Timer   // tells when due has come; nil: not needed

	// Guarded by link.mu.
	left   *output // what the socket did not take; nil: nothing
	within int     // bytes of left that are in records, of which the socket has not taken all
	closed bool
}

// Who runs the link.
const (
	nobody   uint32 = iota
	running         // a goroutine
	notified        // a goroutine, and there was an event since it last looked
	waiting         // a goroutine that waits for an event
)

type parkedInput struct {
	bytes   [parkedBuffer]byte
	r, w    int  // what was read and not given out is bytes[r:w]
	drained bool // the last read got less than it asked for: there is nothing more until the next event
}

var parkedInputs = sync.Pool{New: func() any { return new(parkedInput) }}

// park takes over a connection that is a socket, or TLS on one (NewTLSListener). nil: this one can't be parked.
func (s *Server) park(l *link, conn net.Conn, early []byte) socket {
	p := &parked{link: l, stash: early}
	if p.tls, _ = conn.(*tls.Conn); p.tls != nil {
		if p.sealed, _ = p.tls.NetConn().(*sealed); p.sealed == nil {
			return nil
		}
	}
	tcp, ok := bare(conn).(*net.TCPConn)
	if !ok || s.config.GoroutinePerLink || len(early) > parkedBuffer {
		return nil
	}
	poller, err := s.poller()
	if err != nil {
		return nil
	}
	if p.fd, err = duplicate(tcp); err != nil {
		return nil
	}
	p.poller = poller
	p.state.Store(running)
	if err := poller.add(p); err != nil {
		_ = syscall.Close(p.fd)
		return nil
	}
	if p.sealed != nil {
		p.sealed.fd = p.fd
	}
	_ = tcp.Close() // Go's poller forgets it, and its memory is free
	return p
}

// duplicate gives a socket a second descriptor.
func duplicate(tcp *net.TCPConn) (int, error) {
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

func (p *parked) run() {
	p.link.server.goroutines.Add(1) // until the link has ended, also while nobody runs it
	go func() {
		p.link.begin()
		p.advance()
	}()
}

// advance runs the link until there is nothing to do.
func (p *parked) advance() {
	for {
		p.borrow()
		ended := p.link.advance()
		p.giveBack()
		if ended {
			p.link.server.goroutines.Done()
			return
		}
		if p.state.CompareAndSwap(running, nobody) {
			return
		}
		p.state.Store(running)
	}
}

func (p *parked) borrow() {
	p.in = parkedInputs.Get().(*parkedInput)
	p.in.r, p.in.w, p.in.drained = 0, copy(p.in.bytes[:], p.stash), false
	p.stash = nil
}

// giveBack keeps what there is of a frame, but not for longer than a message may take; and of what it took to get there, nothing.
func (p *parked) giveBack() {
	p.awake = nil
	if p.in.w > p.in.r && !p.link.over {
		p.stash = bytes.Clone(p.in.bytes[p.in.r:p.in.w])
		p.startClock()
		limit := p.due - p.link.server.now()
		if p.timer == nil {
			p.timer = time.AfterFunc(limit, p.notify)
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
		p.due, p.reprieved = s.now()+s.config.MessageTimeout, false
	}
}

// notify says that there may be something to read, or that the link is to look at itself.
func (p *parked) notify() {
	for {
		switch p.state.Load() {
		case nobody:
			if p.state.CompareAndSwap(nobody, running) {
				go p.advance()
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

// look forgets events before a look at the socket, and reports whether there were any.
func (p *parked) look() bool { return p.state.CompareAndSwap(notified, running) }

func (p *parked) lookahead() int { return parkedLookahead }

func (p *parked) read(b []byte) (int, error) {
	for {
		if n, err := p.giveOut(b); n > 0 || err != nil {
			return n, err
		}
		if err := p.fill(); err != nil {
			return 0, err
		}
	}
}

// giveOut copies what may be seen: of one frame, and of a small one that begins a message only when it is whole.
func (p *parked) giveOut(b []byte) (int, error) {
	have := p.in.bytes[p.in.r:p.in.w]
	if p.size == 0 {
		f, ok := frame.ParseHeader(have)
		if !ok || f.Size > uint64(len(have)) && f.Size <= parkedBuffer && !p.fragmented && mayBecomeText(f, have) {
			return 0, nil
		}
		if err := p.limit.admit(f, p.link); err != nil {
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

// mayBecomeText reports false for the beginning of a frame that is to be text and can't be: then nobody waits for the rest.
func mayBecomeText(f frame.Header, have []byte) bool {
	if f.Opcode != frame.Text || f.Compressed {
		return true
	}
	_, ok := validPrefix(f.AppendPayload(nil, have))
	return ok
}

// fill reads from the socket.
func (p *parked) fill() error {
	in := p.in
	in.w = copy(in.bytes[:], in.bytes[in.r:in.w])
	in.r = 0
	for {
		if p.look() {
			in.drained = false
		}
		if p.stopped() {
			break
		}
		if p.link.isRevoked() {
			return outOfBudget()
		}
		overdue := p.overdue()
		if overdue && p.reprieved {
			break
		}
		if !in.drained || overdue { // what has arrived is read before the verdict
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
		if err := p.wait(); err != nil {
			return err
		}
	}
	p.link.readErr = os.ErrDeadlineExceeded
	return p.link.readErr
}

// readSome reads once what is there. Where that is part of an overdue message, its time is put off.
func (p *parked) readSome(overdue bool) (int, error) {
	in := p.in
	room := in.bytes[in.w:]
	n, blocked, err := p.receive(room)
	in.w += n
	in.drained = blocked || n < len(room) && p.tls == nil && !p.hungUp.Load()
	if n > 0 {
		p.link.hear()
	}
	if n > 0 && overdue {
		p.due, p.reprieved = p.link.server.now()+reprieve, true
	}
	if _, ours := errors.AsType[*Violation](err); err != nil && !ours {
		p.link.readErr = err
	}
	return n, err
}

// receive reads what is there. blocked: nothing is.
func (p *parked) receive(b []byte) (n int, blocked bool, err error) {
	if p.tls == nil {
		n, blocked, err = readSocket(p.fd, b)
		if !blocked {
			err = endOfFile(n, err)
		}
		return n, blocked, err
	}
	n, err = p.tls.Read(b)
	if p.sealed.size() > 0 && !p.flushOwn() {
		return n, false, &Violation{unreadRecords}
	}
	if errors.Is(err, errAgain) {
		return 0, true, nil
	}
	return n, false, err //nolint:wrapcheck // is the socket
}

// unreadRecords is how a link ends whose client has TLS answer, by asking for new keys, and does not read the answers.
var unreadRecords = cause.CloseStatus{
	Cause:  cause.Slow,
	Code:   cause.Slow.CloseStatus().Code,
	Reason: "too slow: answers of TLS are not read",
}

// flushOwn writes records that no output is behind: what TLS has to say by itself. It reports false if more of them wait than
// may wait of other control frames, maxPending; unlike pongs they can't be dropped.
func (p *parked) flushOwn() bool {
	l := p.link
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken {
		return true
	}
	_, blocked, err := p.sealed.flush()
	if p.sealed.size() > 0 && !l.writing {
		o := newOutput(l)
		o.blocked = blocked && err == nil // after an error the goroutine that writes finds it again
		l.writing = true
		p.handOverLocked(o)
	}
	most := maxPending
	if p.within > 0 {
		most += sealedKept // the records of an output
	}
	return p.sealed.size() <= most
}

// stopped reports whether nothing is to be read any more.
func (p *parked) stopped() bool {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	return p.link.readEnded
}

// overdue reports whether the time is over in which the message that has begun was to end.
func (p *parked) overdue() bool {
	return p.due != 0 && p.link.server.now() >= p.due
}

// wait waits for an event, in the middle of a message.
func (p *parked) wait() error {
	l := p.link
	if p.held == 0 {
		cost := int64(waitCost)
		if l.compressed {
			cost += inflateCost
		}
		if !l.reserve(cost) {
			return outOfBudget()
		}
		p.held = cost
	}
	p.startClock()
	if p.awake == nil {
		p.awake = make(chan struct{}, 1)
	}
	if !p.state.CompareAndSwap(running, waiting) {
		return nil // notified
	}
	late := time.NewTimer(p.due - l.server.now())
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

func (p *parked) ready() int {
	return int(min(uint64(p.in.w-p.in.r), p.size))
}

func (p *parked) stirs() (yes bool) {
	p.control(func() {
		readable, writable := pollSocket(p.fd)
		yes = readable || writable && p.left != nil && p.left.blocked
	})
	return yes
}

func (p *parked) rest() {
	p.link.release(p.held)
	p.held = 0
}

func (p *parked) wake() { p.notify() }

func (p *parked) discard() error {
	for {
		p.look()
		n, blocked, err := readSocket(p.fd, p.in.bytes[:])
		switch {
		case blocked:
			return errParked
		case err != nil || n == 0:
			return nil //nolint:nilerr // the end is what is waited for
		}
	}
}

func (p *parked) prefetch() {
	prefetch.Line(unsafe.Pointer(&p.fd))
	prefetch.Line(unsafe.Pointer(&p.left))
}

func (p *parked) tryLocked(o *output) (bool, error) {
	if p.tls == nil {
		o.writeAll(uintptr(p.fd))
		return o.done(), o.err
	}
	for {
		if err := p.flushLocked(o); err != nil || o.blocked {
			return false, err
		}
		if o.done() {
			return true, nil
		}
		rest := o.rest()
		n, err := p.tls.Write(rest[:min(len(rest), writePiece)])
		if err != nil {
			return false, err //nolint:wrapcheck // is the socket
		}
		p.within = n
	}
}

// flushLocked writes records. What of o is in them counts as written when the socket has taken all of them. Progress on
// a socket that was full is a sign of life: the client has read.
func (p *parked) flushLocked(o *output) error {
	waited := o.blocked
	n, blocked, err := p.sealed.flush()
	o.blocked = blocked
	if n > 0 && waited {
		p.link.hear()
	}
	if err == nil && !blocked {
		o.advance(p.within)
		p.within = 0
	}
	return err
}

// handOverLocked keeps o until the socket takes more. What it would take now goes on in a goroutine.
func (p *parked) handOverLocked(o *output) {
	p.left = o
	if !o.blocked {
		p.link.server.goroutines.Go(p.writeOn)
	}
}

// writable says that the socket takes something again. An event that comes between a write that was refused and handOverLocked
// waits here for the link's lock.
func (p *parked) writable() {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	if p.left != nil { // then the link has not ended, and is counted
		p.link.server.goroutines.Go(p.writeOn)
	}
}

// writeOn writes what is left, and all that comes behind it, as far as the socket takes it.
func (p *parked) writeOn() {
	for p.writeSome() {
		runtime.Gosched() // others have something for this link, or it for them
	}
}

// writeSome does some writes, and reports whether more would go.
func (p *parked) writeSome() bool {
	l := p.link
	l.mu.Lock()
	defer l.unlock()
	for range inlineWrites {
		if p.left == nil {
			return false
		}
		l.server.metrics.async.Inc()
		done, err := p.tryLocked(p.left)
		if err != nil {
			l.breakLocked()
		}
		if err == nil && !done {
			return false
		}
		if !l.nextLocked(p.left) {
			p.left.free()
			p.left, l.writing = nil, false
			return false
		}
	}
	return true
}

func (p *parked) halfClose() bool {
	p.sayGoodbye()
	p.shutdown(syscall.SHUT_WR)
	return true
}

func (p *parked) hangUp() {
	p.sayGoodbye()
	p.shutdown(syscall.SHUT_RDWR)
}

// sayGoodbye ends TLS, if the socket takes that.
func (p *parked) sayGoodbye() {
	if p.tls != nil {
		p.control(func() {
			_ = p.tls.CloseWrite()
			_, _, _ = p.sealed.flush()
		})
	}
}

// abort has the goroutine that runs the link find the end.
func (p *parked) abort(reset bool) {
	if reset {
		p.control(func() {
			_ = syscall.SetsockoptLinger(p.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		})
	}
	p.shutdown(syscall.SHUT_RDWR)
}

func (p *parked) shutdown(how int) { p.control(func() { _ = syscall.Shutdown(p.fd, how) }) }

// control does something with the socket unless it is closed.
func (p *parked) control(do func()) {
	p.link.mu.Lock()
	defer p.link.mu.Unlock()
	if !p.closed {
		do()
	}
}

func (p *parked) finish() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.rest()
	l := p.link
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = true // nothing is written any more
	if p.left != nil {
		p.left.free()
		p.left, l.writing = nil, false
	}
	p.closed = true
	if p.sealed != nil {
		p.sealed.free()
	}
	p.poller.remove(p)
	_ = syscall.Close(p.fd)
}
