//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// pass is the time between the end of a pass over all sockets and the next pass.
	pass = 20 * time.Millisecond
	// drainLimit bounds the wait for the bytes of a round.
	drainLimit = 20 * time.Second
	// dials is the number of handshakes at the same time.
	dials = 32
	// readBytes is the size of a read buffer.
	readBytes = 64 << 10
	// halfFrame is the time between the two pieces of a frame.
	halfFrame = 500 * time.Millisecond
)

// crowd has the clients. It is in the load's process.
type crowd struct {
	callers map[string]*caller  // by address; owned by obey
	tokens  map[string][]string // that no client has used; owned by obey

	mu      sync.Mutex
	sockets []*socket
	watcher *watcher // reads instead of run; nil: run reads
	leaves  bool     // clients that the hub closes leave; otherwise that is an error
	wanted  drain
	drained chan error // gets the result of the drain; nil: no drain waits
	err     error      // the first error of a client, until a drain returns it
}

// serveLoad runs the role "load".
func serveLoad() error {
	c := &crowd{callers: map[string]*caller{}}
	go c.run()
	return answerLines(c.obey)
}

func (c *crowd) obey(o order) (any, error) {
	began := time.Now()
	var err error
	var lags []time.Duration
	switch {
	case o.Open != nil:
		err = c.open(o.Open)
	case o.Tokens != nil:
		c.tokens = o.Tokens
	case o.Drain != nil:
		err = c.drain(*o.Drain)
	case o.Call != nil:
		err = c.call(o.Call)
	case o.Speak != "":
		err = c.speak(o.Speak, 0)
	case o.Halve != "":
		err = c.speak(o.Halve, halfFrame)
	case o.Pause > 0:
		c.pause(o.Pause)
	case o.Watch:
		err = c.watch()
	case o.Lags:
		lags = c.takeLags()
	case o.Close:
		err = c.close()
	case o.Leave:
		c.mu.Lock()
		c.leaves = true
		c.mu.Unlock()
	}
	return report{time.Since(began), lags}, err
}

// open connects clients, and returns when all are connected. Meanwhile run reads the connected
// clients, because the hub pings them.
func (c *crowd) open(o *opening) error {
	paths, err := c.paths(o)
	if err != nil {
		return err
	}
	failed := make(chan error, o.Count)
	slots := make(chan struct{}, dials)
	var group sync.WaitGroup
	for i := range o.Count {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			s, err := dialSocket(o, paths[i], i)
			if err != nil {
				failed <- fmt.Errorf("client %d: %w", i, err)
				return
			}
			c.add(s)
		})
	}
	group.Wait()
	close(failed)
	return <-failed
}

// paths returns the path of each client of an opening, and uses up their tokens.
func (c *crowd) paths(o *opening) ([]string, error) {
	var tokens []string
	if o.Tokens != "" {
		all := c.tokens[o.Tokens]
		if len(all) < o.Count {
			return nil, fmt.Errorf("%d tokens of %s for %d clients", len(all), o.Tokens, o.Count)
		}
		tokens, c.tokens[o.Tokens] = all[:o.Count], all[o.Count:]
	}
	paths := make([]string, o.Count)
	for i := range paths {
		paths[i] = strings.ReplaceAll(o.Path, "{i}", fmt.Sprintf("%011d", o.First+i))
		if tokens != nil {
			paths[i] = strings.ReplaceAll(paths[i], "{token}", tokens[i])
		}
	}
	return paths, nil
}

func (c *crowd) add(s *socket) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sockets = append(c.sockets, s)
}

// run reads all sockets again and again until the process ends.
func (c *crowd) run() {
	buffer := make([]byte, readBytes)
	clock := time.NewTimer(pass)
	for range clock.C {
		c.mu.Lock()
		c.passLocked(buffer)
		c.mu.Unlock()
		clock.Reset(pass)
	}
}

func (c *crowd) passLocked(buffer []byte) {
	for i, s := range c.sockets {
		if s.paused || c.watcher != nil {
			continue
		}
		err := s.read(buffer)
		if c.leaves && errors.Is(err, errClosed) {
			err = s.leave()
		}
		if err != nil && c.err == nil {
			c.err = fmt.Errorf("client %d: %w", i, err)
		}
	}
	c.sockets = slices.DeleteFunc(c.sockets, func(s *socket) bool { return s.hasLeft })
	if c.drained == nil {
		return
	}
	if done, err := c.doneLocked(); done || err != nil {
		c.drained <- err
		c.drained = nil
	}
}

// doneLocked reports whether all wanted bytes have arrived, and resets the counts if so.
func (c *crowd) doneLocked() (bool, error) {
	if c.err != nil {
		return false, c.err
	}
	total := int64(0)
	for i, s := range c.sockets {
		if total += s.got; c.wanted.Each > 0 && s.got > c.wanted.Each {
			return false, fmt.Errorf("client %d got %d bytes, want %d", i, s.got, c.wanted.Each)
		}
	}
	switch {
	case total > c.wanted.Total:
		return false, fmt.Errorf("clients got %d bytes, want %d", total, c.wanted.Total)
	case total < c.wanted.Total:
		return false, nil
	}
	for _, s := range c.sockets {
		s.got = 0
	}
	return true, nil
}

func (c *crowd) drain(d drain) error {
	drained := make(chan error, 1)
	c.mu.Lock()
	c.wanted, c.drained = d, drained
	c.mu.Unlock()
	select {
	case err := <-drained:
		return err
	case <-time.After(drainLimit):
		return fmt.Errorf("clients did not get %d bytes", d.Total)
	}
}

// speak sends a text from each client. With a pause it sends the text in two pieces.
func (c *crowd) speak(text string, pause time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	whole := clientFrame(opText, []byte(text))
	pieces := [][]byte{whole}
	if pause > 0 {
		pieces = [][]byte{whole[:len(whole)/2], whole[len(whole)/2:]}
	}
	for n, piece := range pieces {
		if n > 0 {
			time.Sleep(pause)
		}
		for i, s := range c.sockets {
			if err := s.write(piece); err != nil {
				return fmt.Errorf("client %d: %w", i, err)
			}
		}
	}
	return nil
}

func (c *crowd) pause(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.sockets[:n] {
		s.paused = true
	}
}

func (c *crowd) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, s := range c.sockets {
		if err := s.reset(); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
	}
	c.sockets = nil
	return nil
}
