package netpoll

import (
	"sync"
	"time"
)

// Reprieve is how much longer a client has if its input lay unread in its socket when a deadline
// passed, or if its socket had room for output: then this process was late, not the client. Each
// deadline is put off at most once, so a client that never stops sending gains no more.
const Reprieve = 2 * time.Second

// Config has the settings that the sockets of a Poller share. All fields but Blocking are required.
type Config struct {
	// Started is the zero of the clock of Socket.Heard.
	Started time.Time
	// MessageTimeout is how long a client may keep back the rest of a message.
	MessageTimeout time.Duration
	// Blocking makes goroutines wait for each socket, even where a poller could wait for all.
	Blocking bool
	// Goroutines counts the sockets that were started, and their goroutines. The caller waits for
	// it before Poller.Close. It must not be zero while a socket is opened and started.
	Goroutines *sync.WaitGroup
}

// Poller waits for parked sockets. It is safe for concurrent use.
type Poller struct {
	config Config // static

	mu    sync.Mutex
	epoll *epoll // nil: no socket was parked yet
}

// NewPoller returns a poller without sockets. It starts no goroutine.
func NewPoller(c Config) *Poller { return &Poller{config: c} }

// sharedEpoll returns the epoll of all parked sockets. It starts the epoll for the first.
func (p *Poller) sharedEpoll() (*epoll, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoll == nil {
		e, err := newEpoll()
		if err != nil {
			return nil, err
		}
		p.epoll = e
	}
	return p.epoll, nil
}

// Close ends the poller's goroutine, and waits for it. All sockets must be closed.
func (p *Poller) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoll != nil {
		p.epoll.closeEpoll()
		p.epoll = nil
	}
}

// sinceStart returns the time on the clock of Socket.Heard.
func (p *Poller) sinceStart() time.Duration { return time.Since(p.config.Started) }
