package edge

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
)

const (
	// pollEvents is how many events one look at the poller takes at most.
	pollEvents = 256
	// pollEdges is what a socket is registered for, once: that it has something to read, that it takes something to write, that
	// the client's half has ended; each told when it begins to be so.
	pollEdges = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | 1<<31 // EPOLLET
	// pollEnds are those that come once.
	pollEnds = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR
	// pollReads are the events after which a read has something to tell.
	pollReads = syscall.EPOLLIN | pollEnds
	// pollWrites are the events after which a write may.
	pollWrites = syscall.EPOLLOUT | syscall.EPOLLHUP | syscall.EPOLLERR
)

// poller waits for all parked sockets: an epoll, which Go's own poller waits for, so that no thread blocks.
//
// The kernel gives back with an event what it got with the socket: a slot of the table, and how often the slot was used
// before, so that a late event of a socket that is gone does not reach the next one with its slot.
type poller struct {
	file *os.File
	raw  syscall.RawConn // of file

	done chan struct{} // closed when run has ended

	mu    sync.Mutex
	slots []pollSlot
	free  []int32 // indexes of slots without a socket
}

type pollSlot struct {
	socket *parked
	used   int32
}

// poller returns the one of all links, and starts it for the first. Handshakes are under way: Shutdown has not come to its end.
func (s *Server) poller() (*poller, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.polling == nil {
		p, err := newPoller()
		if err != nil {
			return nil, err
		}
		s.polling = p
	}
	return s.polling, nil
}

// newPoller starts one. It ends by close.
func newPoller() (*poller, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // or os.File would not give it to Go's poller
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("epoll: %w", err)
	}
	p := &poller{file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{})}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		_ = p.file.Close()
		return nil, fmt.Errorf("epoll: %w", err)
	}
	go p.run()
	return p, nil
}

// close ends the poller, and waits for it. No socket may be left.
func (p *poller) close() {
	_ = p.file.Close()
	<-p.done
}

// add registers a socket. Its first event comes at once: it takes something to write.
func (p *poller) add(s *parked) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		p.free = append(p.free, int32(len(p.slots)))
		p.slots = append(p.slots, pollSlot{})
	}
	i := p.free[len(p.free)-1]
	slot := &p.slots[i]
	e := syscall.EpollEvent{Events: pollEdges, Fd: i, Pad: slot.used}
	if err := p.control(syscall.EPOLL_CTL_ADD, s.fd, &e); err != nil {
		return err
	}
	p.free = p.free[:len(p.free)-1]
	slot.socket, s.slot = s, i
	return nil
}

// remove forgets a socket, which is still open.
func (p *poller) remove(s *parked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.control(syscall.EPOLL_CTL_DEL, s.fd, &syscall.EpollEvent{})
	slot := &p.slots[s.slot]
	slot.socket = nil
	slot.used++
	p.free = append(p.free, s.slot)
}

func (p *poller) control(op, fd int, e *syscall.EpollEvent) error {
	var err error
	if e2 := p.raw.Control(func(epoll uintptr) { err = syscall.EpollCtl(int(epoll), op, fd, e) }); e2 != nil {
		return fmt.Errorf("epoll: %w", e2)
	}
	if err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// socket returns the one that an event is about; nil: it is gone.
func (p *poller) socket(e *syscall.EpollEvent) *parked {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slot := &p.slots[e.Fd]; slot.used == e.Pad {
		return slot.socket
	}
	return nil
}

// run tells sockets what has happened to them.
func (p *poller) run() {
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
			s := p.socket(e)
			if s == nil {
				continue
			}
			if e.Events&pollWrites != 0 {
				s.writable()
			}
			if e.Events&pollEnds != 0 {
				s.hungUp.Store(true)
			}
			if e.Events&pollReads != 0 {
				s.notify()
			}
		}
	}
}
