package edge

import (
	"errors"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A goroutine that holds a link's lock while the link ends finds its descriptor open. A goroutine
// that gets the lock later does not use the number, which may belong to a new file by then.
func TestDescriptorIsClosedUnderTheLinksLockAndUsedNoMore(t *testing.T) {
	mine, next := socketPair(t), socketPair(t)
	poller, err := newPoller()
	if err != nil {
		t.Fatal(err)
	}
	p := &parked{
		link: &link{server: &Server{metrics: unregisteredMetrics()}}, poller: poller,
		fd: renumbered(t, mine[0], 500),
	}
	p.link.socket = p
	p.state.Store(running)
	err = poller.addSocket(p)
	poller.closePoller() // now only closeSocket takes the link's lock
	if err != nil {
		t.Fatal(err)
	}

	poller.mu.Lock() // finish waits here, before it closes the descriptor
	goOn := sync.OnceFunc(poller.mu.Unlock)
	defer goOn()
	ended := make(chan struct{})
	go func() { defer close(ended); p.closeSocket() }()
	for began := time.Now(); p.link.mu.TryLock(); runtime.Gosched() {
		if !isOpen(p.fd) || time.Since(began) > time.Minute {
			t.Fatalf("the link ends without its lock; descriptor open: %t", isOpen(p.fd))
		}
		p.link.mu.Unlock()
	}
	if !isOpen(p.fd) {
		t.Fatal("closed before finish had the link's lock")
	}
	goOn()
	<-ended
	if isOpen(p.fd) || !p.link.broken {
		t.Fatalf("descriptor open: %t, broken: %t", isOpen(p.fd), p.link.broken)
	}
	again := renumbered(t, next[0], p.fd)
	defer func() { _ = syscall.Close(again) }()
	if again != p.fd {
		t.Fatalf("got %d, want %d again", again, p.fd)
	}
	p.link.sendPing()
	p.link.Flush()
	p.notifyWritable()
	p.halfClose()
	p.hangUp()
	p.abortSocket(true)
	if n, err := syscall.Read(next[1], make([]byte, 100)); !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("the next with the number was used: its other end read %d, %v", n, err)
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
