package netpoll

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/connhub/connhub/internal/prefetch"
)

const (
	// parkedBuffer is the size in bytes of the buffer that a socket borrows while it is read.
	// net/http's buffer for a request is no larger.
	parkedBuffer = 4 << 10
	// mostOwnRecords bounds, in bytes, the records that TLS makes by itself, while the client does
	// not read. They can't be dropped.
	mostOwnRecords = 1 << 10
)

// parked is a socket that has a goroutine only while there is work.
//
// Problem: a million silent clients must not cost a million goroutines with their stacks and
// buffers.
//
// Outline: the epoll tells when there is input. Then a goroutine borrows a buffer, and the owner
// reads until no input is left (ErrIdle). An incomplete beginning waits in stash. In the middle of
// a message the goroutine waits.
//
// Invariants:
//   - At most a single goroutine runs the owner, by state. An event is never lost. It starts a
//     goroutine, or wakes the waiting goroutine, or makes the running goroutine look again before
//     it parks.
//   - Writes are made under the socket's lock, and never wait. While the owner has bytes that the
//     socket did not take, awaiting is set, or a goroutine is about to call ServeWritable.
//   - The goroutine that runs the owner closes fd, under the lock. After that fd is not used.
//
// The fields of each write come first.
type parked struct {
	fd  int       // static
	tls *tls.Conn // static; nil: none

	// Guarded by socket.mu.
	within   int  // bytes that TLS has taken, in records that the socket has not taken completely
	full     bool // the socket took no more at the last write
	awaiting bool // ServeWritable is to be called when there is room
	closed   bool

	// Owned by the goroutine that runs the owner.
	reprieved bool // due was put off, because there was input when the time was over

	slot int32 // guarded by epoll.mu

	// Static.
	socket *Socket
	owner  Owner
	poller *Poller
	epoll  *epoll
	sealed *Sealed // below tls

	state atomic.Uint32
	// hungUp is set when the client's half, or the socket, has ended. The event that told it may
	// have been the last event, because it also told of earlier data. So reads must go on until
	// they find the end.
	hungUp  atomic.Bool
	stopped atomic.Bool   // StopReading was called
	awake   chan struct{} // tells the waiting goroutine; made when a goroutine first waits

	// Owned by the goroutine that runs the owner.
	stash []byte // an incomplete beginning, while no goroutine runs
	// Poller.sinceStart when the begun message must be complete; 0: none has begun
	due   time.Duration
	timer *time.Timer // fires at due; nil: not needed
}

// The states of a parked socket.
const (
	idle     uint32 = iota // no goroutine runs the owner
	running                // a goroutine runs the owner
	notified               // a goroutine runs the owner, and an event came since it last looked
	waiting                // a goroutine waits for an event
)

var parkedInputs = sync.Pool{New: func() any { return &input{bytes: make([]byte, parkedBuffer)} }}

// parkSocket takes over a TCP connection, or TLS on a TCP connection (NewTLSListener). It returns
// nil if it can't park conn.
func parkSocket(poller *Poller, s *Socket, o Owner, conn net.Conn, early []byte) driver {
	p := &parked{poller: poller, socket: s, owner: o, stash: early}
	if p.tls, _ = conn.(*tls.Conn); p.tls != nil {
		if p.sealed, _ = p.tls.NetConn().(*Sealed); p.sealed == nil {
			return nil
		}
	}
	tcp, ok := Unwrap(conn).(*net.TCPConn)
	if !ok || poller.config.Blocking || len(early) > parkedBuffer {
		return nil
	}
	var err error
	if p.epoll, err = poller.sharedEpoll(); err != nil {
		return nil
	}
	if p.fd, err = duplicateSocket(tcp); err != nil {
		return nil
	}
	p.state.Store(running)
	if err := p.epoll.addSocket(p); err != nil {
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

func (p *parked) startOwner(first func()) {
	p.poller.config.Goroutines.Add(1) // until the owner has ended, even while no goroutine runs it
	first()
	// Input that is here already has told so, or will: the epoll reports it to each new socket.
	// Only TLS may have some in a buffer of its own.
	if p.tls == nil && len(p.stash) == 0 && p.state.CompareAndSwap(running, idle) {
		return
	}
	go p.runUntilIdle()
}

// runUntilIdle runs the owner until there is no work, or the owner has ended.
func (p *parked) runUntilIdle() {
	for {
		p.borrowBuffer()
		ended := p.owner.ServeReadable()
		p.giveBackBuffer()
		if ended {
			p.poller.config.Goroutines.Done()
			return
		}
		if p.state.CompareAndSwap(running, idle) {
			return
		}
		p.state.Store(running)
	}
}

func (p *parked) borrowBuffer() {
	in := parkedInputs.Get().(*input)
	in.r, in.w, in.drained = 0, copy(in.bytes, p.stash), false
	p.socket.in, p.stash = in, nil
}

// giveBackBuffer returns the buffer to the pool. It keeps an incomplete beginning in stash, for no
// longer than MessageTimeout.
func (p *parked) giveBackBuffer() {
	p.awake = nil
	in := p.socket.in
	if in.w > in.r && !p.closed {
		p.stash = bytes.Clone(in.bytes[in.r:in.w])
		p.startClock()
		limit := max(p.due-p.poller.sinceStart(), 1)
		if p.timer == nil {
			p.timer = time.AfterFunc(limit, p.notifyReadable)
		} else {
			p.timer.Reset(limit)
		}
	} else if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.socket.in = nil
	parkedInputs.Put(in)
}

func (p *parked) startClock() {
	if p.due == 0 {
		p.due = p.poller.sinceStart() + p.poller.config.MessageTimeout
		p.reprieved = false
	}
}

// notifyReadable tells the owner that there may be input, or that it must check itself.
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

func (p *parked) readPast([]byte) (int, error) { return 0, p.fillBuffer(true) }

func (p *parked) fillBuffer(begun bool) error {
	in := p.socket.in
	if err := in.compactBuffer(); err != nil {
		return err
	}
	if p.clearNotified() {
		in.drained = false
	}
	overdue := p.isOverdue()
	if p.stopped.Load() || overdue && p.reprieved {
		return os.ErrDeadlineExceeded
	}
	if !in.drained || overdue { // read all arrived bytes before the verdict
		if n, err := p.readSome(overdue); n > 0 || err != nil {
			return err
		}
	}
	if overdue {
		return os.ErrDeadlineExceeded
	}
	if begun || in.w > in.r {
		p.startClock()
	}
	return ErrIdle
}

// readSome reads once, without waiting. If it gets bytes of an overdue message, it puts the
// deadline off.
func (p *parked) readSome(overdue bool) (int, error) {
	in := p.socket.in
	room := in.bytes[in.w:]
	n, blocked, err := p.readAvailable(room)
	in.w += n
	in.drained = blocked || n < len(room) && p.tls == nil && !p.hungUp.Load()
	if n == 0 {
		return 0, err
	}
	now := p.poller.sinceStart()
	p.socket.NoteLife(now)
	if overdue {
		p.due, p.reprieved = now+Reprieve, true
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
		return n, false, ErrUnreadRecords
	}
	switch {
	case n > 0:
		return n, false, nil // the next read finds the error again
	case errors.Is(err, errAgain):
		return 0, true, nil
	default:
		return 0, false, err //nolint:wrapcheck // is the socket
	}
}

// flushOwn writes the records that TLS makes by itself, without bytes of the owner. It returns
// false if more than mostOwnRecords bytes of them wait.
func (p *parked) flushOwn() bool {
	p.socket.mu.Lock()
	defer p.socket.mu.Unlock()
	return p.flushOwnLocked()
}

func (p *parked) flushOwnLocked() bool {
	_, blocked, err := p.sealed.flushRecords()
	if err != nil {
		p.sealed.dropRecords() // nothing is written any more
		return true
	}
	p.full = blocked
	most := mostOwnRecords
	if p.within > 0 {
		most += sealedKept // the records of the owner's bytes
	}
	return p.sealed.unflushedSize() <= most
}

// isOverdue reports whether the deadline of the begun message is over.
func (p *parked) isOverdue() bool { return p.due != 0 && p.poller.sinceStart() >= p.due }

func (p *parked) waitForInput() {
	p.startClock()
	if p.awake == nil {
		p.awake = make(chan struct{}, 1)
	}
	if !p.state.CompareAndSwap(running, waiting) {
		return // there was an event already
	}
	late := time.NewTimer(p.due - p.poller.sinceStart())
	defer late.Stop()
	select {
	case <-p.awake:
	case <-late.C:
		if !p.state.CompareAndSwap(waiting, running) {
			<-p.awake
		}
	}
	p.socket.in.drained = false
}

func (p *parked) endMessage() { p.due = 0 }

func (p *parked) stopReading() {
	p.stopped.Store(true)
	p.notifyReadable()
}

func (p *parked) showsLife() (yes bool) {
	p.withOpenSocket(func() {
		readable, writable := pollSocket(p.fd)
		yes = readable || writable && p.full
	})
	return yes
}

func (p *parked) discardInput() error {
	in := p.socket.in
	in.r, in.w = 0, 0
	for {
		p.clearNotified()
		n, blocked, err := readSocket(p.fd, in.bytes)
		switch {
		case blocked:
			return ErrIdle
		case err != nil || n == 0:
			return nil //nolint:nilerr // the loop waits for the end
		}
	}
}

func (p *parked) prefetchState() {
	prefetch.Line(unsafe.Pointer(p))
	prefetch.Line(unsafe.Add(unsafe.Pointer(p), unsafe.Offsetof(p.closed)))
}

func (p *parked) tryWriteLocked(b []byte) (int, error) {
	if p.closed {
		return 0, net.ErrClosed
	}
	waited := p.full
	if p.tls != nil {
		return p.sealLocked(b, waited)
	}
	sent := 0
	for p.full = false; sent < len(b) && !p.full; {
		n, blocked, err := writeSocket(uintptr(p.fd), b[sent:])
		p.noteProgress(n, waited)
		sent += n
		p.full, waited = blocked, blocked
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// sealLocked is tryWriteLocked under TLS. The bytes in records count as written when the socket has
// taken all records.
func (p *parked) sealLocked(b []byte, waited bool) (sent int, err error) {
	for {
		n, blocked, err := p.sealed.flushRecords()
		p.noteProgress(n, waited)
		p.full, waited = blocked, blocked
		if err != nil || blocked {
			return sent, err
		}
		sent += p.within
		p.within = 0
		if sent == len(b) {
			return sent, nil
		}
		rest := b[sent:]
		if p.within, err = p.tls.Write(rest[:min(len(rest), recordPiece)]); err != nil {
			return sent, err //nolint:wrapcheck // is the socket
		}
	}
}

// noteProgress notes n written bytes. Progress on a socket that was full is a sign of life: the
// client has read.
func (p *parked) noteProgress(n int, waited bool) {
	if n > 0 && waited {
		p.socket.NoteLife(p.poller.sinceStart())
	}
}

func (p *parked) awaitRoomLocked([]byte) {
	if p.closed {
		return
	}
	p.awaiting = true
	if !p.full {
		p.resumeLocked()
	}
}

// resumeLocked calls ServeWritable from a goroutine of its own: further goroutines may wait for the
// lock. The owner has not ended, so the count of goroutines is not zero.
func (p *parked) resumeLocked() {
	p.awaiting = false
	p.poller.config.Goroutines.Go(p.owner.ServeWritable)
}

// notifyWritable tells that the socket takes more bytes. An event between a refused write and
// awaitRoomLocked waits here for the lock.
func (p *parked) notifyWritable() {
	p.socket.mu.Lock()
	defer p.socket.mu.Unlock()
	switch {
	case p.awaiting:
		p.resumeLocked()
	case p.sealed != nil && !p.closed && p.sealed.unflushedSize() > 0:
		p.flushOwnLocked()
	}
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

// abortSocket makes the goroutine that runs the owner find the end.
func (p *parked) abortSocket(reset bool) {
	p.withOpenSocket(func() {
		if reset || p.full {
			_ = syscall.SetsockoptLinger(p.fd, syscall.SOL_SOCKET, syscall.SO_LINGER,
				&syscall.Linger{Onoff: 1})
		}
		_ = syscall.Shutdown(p.fd, syscall.SHUT_RDWR)
	})
}

func (p *parked) shutdownSocket(how int) {
	p.withOpenSocket(func() { _ = syscall.Shutdown(p.fd, how) })
}

// withOpenSocket calls do under the lock, unless the socket is closed.
func (p *parked) withOpenSocket(do func()) {
	p.socket.mu.Lock()
	defer p.socket.mu.Unlock()
	if !p.closed {
		do()
	}
}

func (p *parked) closeSocket() {
	if p.timer != nil {
		p.timer.Stop()
	}
	p.socket.mu.Lock()
	defer p.socket.mu.Unlock()
	p.closed, p.awaiting = true, false
	if p.sealed != nil {
		p.sealed.dropRecords()
	}
	p.epoll.removeSocket(p)
	_ = syscall.Close(p.fd)
}
