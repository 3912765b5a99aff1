package netpoll

import (
	"bufio"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// MaxWrite is the most bytes of a write that goes past Go's scheduler. The kernel copies as many in
// some 20 µs, for which a garbage collection may have to wait. Handing the processor over and back
// costs more than most writes.
const MaxWrite = 64 << 10

var (
	// ErrIdle is the error of a parked socket's reads if there is no input now. An Owner in the
	// middle of a message calls Socket.Wait. Otherwise ServeReadable returns: the socket needs no
	// goroutine until more input comes.
	ErrIdle = errors.New("nothing to read")
	// ErrUnreadRecords is the error of reads from a client that makes TLS answer, by asking for new
	// keys, and does not read the answers.
	ErrUnreadRecords = errors.New("answers of TLS are not read")
)

// Owner is the user of a Socket: it cuts the input into messages, and makes the output.
type Owner interface {
	// ServeReadable handles the input. It returns false after a read has returned ErrIdle. It
	// returns true after it has called Socket.Close. It never runs concurrently with itself, but
	// each call may come from a new goroutine.
	ServeReadable() (ended bool)
	// ServeWritable writes the bytes of AwaitRoomLocked: the socket may have room for more. Then it
	// calls AwaitRoomLocked again, unless all are written. It may run after Socket.Close.
	ServeWritable()
}

// Socket is a client's connection. It is a part of its Owner, and must not be copied.
//
// The methods from Buffered to Discard are for reading. Only ServeReadable may call them, except
// for StopReading. Methods with Locked need the lock. HalfClose, HangUp, Abort, ShowsLife and
// StopReading must be called without it. None of these blocks, except for TLS's goodbye on a
// blocking socket.
type Socket struct {
	mu     sync.Mutex
	driver driver       // static after Open
	heard  atomic.Int64 // on the clock of Config.Started, when the client last showed life
	in     *input       // owned by ServeReadable; nil: a parked socket that has no goroutine
}

// driver is how a socket waits. blocking has goroutines that wait, on any system. parked, on Linux,
// has a poller that waits for all. The methods are those of Socket.
type driver interface {
	startOwner(first func())

	fillBuffer(begun bool) error
	// readPast reads more input, to b or to the buffer, which is empty. n is of b.
	readPast(b []byte) (n int, err error)
	waitForInput()
	endMessage()
	stopReading()
	discardInput() error

	tryWriteLocked(b []byte) (int, error)
	awaitRoomLocked(b []byte)
	showsLife() bool
	prefetchState()

	halfClose() bool
	hangUp()
	abortSocket(reset bool)
	closeSocket()
}

// input is the buffer of a socket while it is read.
type input struct {
	bytes   []byte
	r, w    int  // bytes[r:w] was read and not taken
	drained bool // the last read of a parked socket found the end of the input
}

// compactBuffer makes room behind the buffered bytes. It returns bufio.ErrBufferFull if there is
// none.
func (in *input) compactBuffer() error {
	in.w = copy(in.bytes, in.bytes[in.r:in.w])
	in.r = 0
	if in.w == len(in.bytes) {
		return bufio.ErrBufferFull
	}
	return nil
}

// Open takes over conn, and the bytes that the client already sent on it. It must be called once,
// before any further method.
func (s *Socket) Open(p *Poller, o Owner, conn net.Conn, early []byte) {
	if tcp, ok := Unwrap(conn).(*net.TCPConn); ok {
		// The owner finds dead peers. The kernel's probes, every 15 s, would only keep phones
		// awake.
		_ = tcp.SetKeepAlive(false)
		boundKernelMemory(tcp)
	}
	s.NoteLife(p.sinceStart())
	if s.driver = parkSocket(p, s, o, conn, early); s.driver == nil {
		s.driver = newBlocking(p, s, o, conn, early)
	}
}

// Start runs the owner: first once, and then ServeReadable when there is input, until it reports
// the end. first must not block: a parked socket runs it before Start returns, and starts no
// goroutine if there is no input.
func (s *Socket) Start(first func()) { s.driver.startOwner(first) }

// Buffered returns the input that was read and not taken. It is valid until the next read.
func (s *Socket) Buffered() []byte { return s.in.bytes[s.in.r:s.in.w] }

// BufferSize returns how many bytes Buffered can have. A parked socket keeps them without a
// goroutine.
func (s *Socket) BufferSize() int { return len(s.in.bytes) }

// Read takes input. It returns buffered bytes, or reads more: the rest of a message that has begun.
// Errors are those of Fill.
func (s *Socket) Read(b []byte) (int, error) {
	if s.in.r == s.in.w {
		if n, err := s.driver.readPast(b); n > 0 || err != nil {
			return n, err
		}
	}
	n := copy(b, s.in.bytes[s.in.r:s.in.w])
	s.in.r += n
	return n, nil
}

// Fill reads more input behind the buffered bytes. begun tells that bytes of an incomplete message
// were taken already. If begun is set, or bytes are buffered, MessageTimeout runs until EndMessage.
//
// Errors:
//   - ErrIdle: there is no input now. A blocking socket waits instead.
//   - os.ErrDeadlineExceeded: MessageTimeout is over, or StopReading was called.
//   - bufio.ErrBufferFull: BufferSize bytes are buffered.
//   - ErrUnreadRecords.
//   - Any further error is the end of the socket.
func (s *Socket) Fill(begun bool) error { return s.driver.fillBuffer(begun) }

// Wait waits for input, in the middle of a message, after ErrIdle. It returns when there may be
// some, or MessageTimeout is over: the next read tells.
func (s *Socket) Wait() { s.driver.waitForInput() }

// EndMessage ends MessageTimeout: the begun message was taken to its end.
func (s *Socket) EndMessage() { s.driver.endMessage() }

// StopReading makes reads return os.ErrDeadlineExceeded, also a read that waits. It is safe for
// concurrent use.
func (s *Socket) StopReading() { s.driver.stopReading() }

// Discard reads and drops input. It returns nil when the socket has ended, or ErrIdle.
func (s *Socket) Discard() error { return s.driver.discardInput() }

// Lock takes the lock of the output, and of the owner's state.
func (s *Socket) Lock() { s.mu.Lock() }

// Unlock gives the lock back.
func (s *Socket) Unlock() { s.mu.Unlock() }

// TryWriteLocked writes the bytes that go without waiting. n of them are the kernel's now. If n is
// less than len(b), the next call must be for the rest of b: under TLS the socket has bytes of it
// already, as records.
func (s *Socket) TryWriteLocked(b []byte) (n int, err error) { return s.driver.tryWriteLocked(b) }

// AwaitRoomLocked makes the socket call ServeWritable once it may take more of b, which has bytes.
// The call comes from another goroutine, and soon if the socket is not full. b must not change
// before.
func (s *Socket) AwaitRoomLocked(b []byte) { s.driver.awaitRoomLocked(b) }

// NoteLife notes a sign of life of the client: now, on the clock of Heard. It is safe for
// concurrent use.
func (s *Socket) NoteLife(now time.Duration) { s.heard.Store(int64(now)) }

// Heard returns when the client last showed life: it sent a byte, or read one that the kernel had
// no room for before. It is safe for concurrent use.
func (s *Socket) Heard() time.Duration { return time.Duration(s.heard.Load()) }

// ShowsLife reports whether the client has given a sign of life that Heard does not have yet: there
// is input in the socket, or the socket was full and has room. The owner asks before it gives a
// client up, because this process may have been stopped, or late.
func (s *Socket) ShowsLife() bool { return s.driver.showsLife() }

// Prefetch loads the memory of a later TryWriteLocked into the cache; see package prefetch.
func (s *Socket) Prefetch() { s.driver.prefetchState() }

// HalfClose ends the sending half, behind all written bytes. It aborts a socket that can't.
func (s *Socket) HalfClose() {
	if !s.driver.halfClose() {
		s.driver.abortSocket(false)
	}
}

// HangUp ends the socket, behind all written bytes.
func (s *Socket) HangUp() { s.driver.hangUp() }

// Abort ends the socket at once. With reset the kernel drops its bytes for the client. Otherwise it
// may keep up to some MB for a client that does not read, and try to send them for minutes.
func (s *Socket) Abort(reset bool) { s.driver.abortSocket(reset) }

// Close gives the descriptor back. Only ServeReadable may call it, once. When it returns, nothing
// writes any more, and later writes fail with net.ErrClosed.
func (s *Socket) Close() { s.driver.closeSocket() }
