package netpoll

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

const (
	// pollEvents is the most events of a look at the epoll.
	pollEvents = 256
	// pollEdges are the events for which a socket is registered, once: it has input, it takes
	// output, the client's half has ended. Each is told when it begins.
	pollEdges = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | 1<<31 // EPOLLET
	// pollEnds are the events that come only once.
	pollEnds = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
	// pollReads are the events after which a read may find input or an end.
	pollReads = syscall.EPOLLIN | pollEnds
	// pollWrites are the events after which a write may make progress.
	pollWrites = syscall.EPOLLOUT | syscall.EPOLLHUP | syscall.EPOLLERR
)

// epoll is an epoll(7) for which Go's own poller waits, so no thread blocks.
//
// The kernel returns with an event the data that was registered with the socket: a slot of the
// table, and how often the slot was used before. So a late event of a closed socket does not reach
// the next socket in its slot.
type epoll struct {
	file *os.File
	raw  syscall.RawConn // of file

	done chan struct{} // closed when pollLoop has ended

	mu    sync.Mutex
	slots []pollSlot
	free  []int32 // indexes of slots without a socket
}

type pollSlot struct {
	socket *parked
	used   int32
}

// newEpoll starts an epoll. It ends by closeEpoll.
func newEpoll() (*epoll, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	// or os.File would not register it with Go's poller
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p := &epoll{file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{})}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go p.pollLoop()
	return p, nil
}

// closeEpoll ends the epoll, and waits for its goroutine. No socket may be left.
func (p *epoll) closeEpoll() {
	_ = p.file.Close()
	<-p.done
}

// addSocket registers a socket. Its first event comes at once: the socket takes output.
func (p *epoll) addSocket(s *parked) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		p.free = append(p.free, int32(len(p.slots)))
		p.slots = append(p.slots, pollSlot{})
	}
	i := p.free[len(p.free)-1]
	slot := &p.slots[i]
	e := syscall.EpollEvent{Events: pollEdges, Fd: i, Pad: slot.used}
	if err := p.controlEpoll(syscall.EPOLL_CTL_ADD, s.fd, &e); err != nil {
		return err
	}
	p.free = p.free[:len(p.free)-1]
	slot.socket, s.slot = s, i
	return nil
}

// removeSocket forgets a socket, which must still be open.
func (p *epoll) removeSocket(s *parked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.controlEpoll(syscall.EPOLL_CTL_DEL, s.fd, &syscall.EpollEvent{})
	slot := &p.slots[s.slot]
	slot.socket = nil
	slot.used++
	p.free = append(p.free, s.slot)
}

func (p *epoll) controlEpoll(op, fd int, e *syscall.EpollEvent) error {
	var err error
	if e2 := p.raw.Control(
		func(epoll uintptr) { err = syscall.EpollCtl(int(epoll), op, fd, e) }); e2 != nil {
		return fmt.Errorf("epoll: %w", e2)
	}
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// findSocket returns the socket of an event, or nil if the socket is gone.
func (p *epoll) findSocket(e *syscall.EpollEvent) *parked {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slot := &p.slots[e.Fd]; slot.used == e.Pad {
		return slot.socket
	}
	return nil
}

// pollLoop tells sockets about their events.
func (p *epoll) pollLoop() {
	defer close(p.done)
	events := make([]syscall.EpollEvent, pollEvents)
	for {
		n := 0
		err := p.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = syscall.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && !errors.Is(err, syscall.EINTR)
		})
		if err != nil {
			return // closed
		}
		for i := range max(n, 0) {
			e := &events[i]
			s := p.findSocket(e)
			if s == nil {
				continue
			}
			if e.Events&pollWrites != 0 {
				s.notifyWritable()
			}
			if e.Events&pollEnds != 0 {
				s.hungUp.Store(true)
			}
			if e.Events&pollReads != 0 {
				s.notifyReadable()
			}
		}
	}
}
