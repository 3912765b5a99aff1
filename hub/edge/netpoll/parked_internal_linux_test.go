package netpoll

import (
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// noOwner is the owner of a socket that does not run.
type noOwner struct{}

func (noOwner) ServeReadable() bool { return false }
func (noOwner) ServeWritable()      {}

// halfParked returns a parked socket that no epoll knows.
func halfParked(fd int) *parked {
	s := &Socket{in: &input{bytes: make([]byte, parkedBuffer)}}
	p := &parked{
		fd: fd, socket: s, owner: noOwner{},
		poller: NewPoller(Config{
			Started: time.Now(), MessageTimeout: time.Minute, Goroutines: new(sync.WaitGroup),
		}),
	}
	s.driver = p
	p.state.Store(running)
	return p
}

// A goroutine that holds a socket's lock while the socket ends finds its descriptor open. A
// goroutine that gets the lock later does not use the number, which may belong to a new file by
// then.
func TestDescriptorIsClosedUnderTheSocketsLockAndUsedNoMore(t *testing.T) {
	mine, next := socketPair(t), socketPair(t)
	p := halfParked(renumbered(t, mine[0], 500))
	var err error
	if p.epoll, err = newEpoll(); err != nil {
		t.Fatal(err)
	}
	err = p.epoll.addSocket(p)
	p.epoll.closeEpoll() // now only closeSocket takes the socket's lock
	if err != nil {
		t.Fatal(err)
	}

	p.epoll.mu.Lock() // closeSocket waits here, before it closes the descriptor
	goOn := sync.OnceFunc(p.epoll.mu.Unlock)
	defer goOn()
	ended := make(chan struct{})
	go func() { defer close(ended); p.socket.Close() }()
	for began := time.Now(); p.socket.mu.TryLock(); runtime.Gosched() {
		if !isOpen(p.fd) || time.Since(began) > time.Minute {
			t.Fatalf("the socket ends without its lock; descriptor open: %t", isOpen(p.fd))
		}
		p.socket.mu.Unlock()
	}
	if !isOpen(p.fd) {
		t.Fatal("closed before closeSocket had the socket's lock")
	}
	goOn()
	<-ended
	if isOpen(p.fd) {
		t.Fatal("the descriptor is open")
	}
	again := renumbered(t, next[0], p.fd)
	defer func() { _ = syscall.Close(again) }()
	if again != p.fd {
		t.Fatalf("got %d, want %d again", again, p.fd)
	}
	p.socket.Lock()
	if _, err := p.socket.TryWriteLocked([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a write: %v", err)
	}
	p.socket.AwaitRoomLocked([]byte("x"))
	p.socket.Unlock()
	p.notifyWritable()
	p.socket.HalfClose()
	p.socket.HangUp()
	p.socket.Abort(true)
	if n, err := syscall.Read(next[1], make([]byte, 100)); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("the next with the number was used: its other end read %d, %v", n, err)
	}
}

// A message whose rest has arrived when its time is over is read. Its client has a little longer
// for the missing bytes, once.
func TestOverdueMessageIsReadToTheEndOfWhatHasArrived(t *testing.T) {
	ends := socketPair(t)
	p := halfParked(ends[0])
	late := func() { p.due = 1 }
	late()
	p.socket.in.drained = true // the last read got all, before the process was stopped
	if _, err := syscall.Write(ends[1], []byte("in time")); err != nil {
		t.Fatal(err)
	}
	if n, err := p.socket.Read(make([]byte, 100)); n != 7 || err != nil || p.isOverdue() {
		t.Fatalf("read %d, %v; overdue: %t", n, err, p.isOverdue())
	}
	late()
	if _, err := syscall.Write(ends[1], []byte("in time")); err != nil {
		t.Fatal(err)
	}
	if n, err := p.socket.Read(make([]byte, 100)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d, %v, for the second time", n, err)
	}
}

// socketPair returns two ends that don't block.
func socketPair(t *testing.T) [2]int {
	t.Helper()
	ends, err := syscall.Socketpair(syscall.AF_UNIX,
		syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = syscall.Close(ends[0]), syscall.Close(ends[1]) })
	return ends
}

// renumbered gives a file a new descriptor, from least on: high numbers belong to no file.
func renumbered(t *testing.T, fd, least int) int {
	t.Helper()
	n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC,
		uintptr(least))
	if errno != 0 {
		t.Fatal(errno)
	}
	return int(n)
}

func isOpen(fd int) bool { return syscall.Fstat(fd, new(syscall.Stat_t)) == nil }
