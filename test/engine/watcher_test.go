//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"
	"time"
)

// clockMonotonic is CLOCK_MONOTONIC (linux/time.h), the same in all processes.
const clockMonotonic = 1

// stampDigits is the length of the time at the beginning of a stamped text, in ns.
const stampDigits = 20

// stamp writes a time to the beginning of a text.
func stamp(text []byte, at time.Duration) { copy(text, fmt.Sprintf("%0*d", stampDigits, at)) }

// stampedAt returns a copy of text that begins with a time.
func stampedAt(text string, at time.Duration) string {
	b := []byte(text)
	stamp(b, at)
	return string(b)
}

// watchedEvents is the number of clients that are read before the lock of the crowd is released.
const watchedEvents = 128

// watcher reads clients as soon as bytes arrive, and records the latencies. Clients get stamped
// texts, each in a frame as long as textFrame.
type watcher struct {
	epoll  int
	events [watchedEvents]syscall.EpollEvent // owned by attend
	lags   []time.Duration                   // guarded by the crowd's lock
}

// watch starts a watcher that reads all clients from now on.
func (c *crowd) watch() error {
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watcher = &watcher{epoll: epoll}
	for i, s := range c.sockets {
		event := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(i)}
		if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, s.fd, &event); err != nil {
			return err
		}
	}
	go c.attend(c.watcher)
	return nil
}

// attend reads until the process ends or a read fails.
func (c *crowd) attend(w *watcher) {
	buffer := make([]byte, readBytes)
	for {
		n, err := syscall.EpollWait(w.epoll, w.events[:], -1)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		c.mu.Lock()
		for _, event := range w.events[:max(n, 0)] {
			if err == nil {
				err = w.read(c.sockets[event.Fd], buffer)
			}
		}
		if err != nil && c.err == nil {
			c.err = err
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// read reads a client once. epoll reports remaining bytes again.
func (w *watcher) read(s *socket, buffer []byte) error {
	n, err := readRaw(s.fd, buffer)
	if err != nil {
		return err
	}
	now := clockTime(clockMonotonic)
	if n%len(textFrame) != 0 {
		return fmt.Errorf("%d bytes, want whole frames", n)
	}
	for at := len(textFrame) - textBytes; at < n; at += len(textFrame) {
		sent, err := strconv.ParseInt(string(buffer[at:at+stampDigits]), 10, 64)
		if err != nil {
			return err
		}
		w.lags = append(w.lags, now-time.Duration(sent))
	}
	return s.parse(buffer[:n])
}

// takeLags returns the latencies since its last call.
func (c *crowd) takeLags() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	lags := c.watcher.lags
	c.watcher.lags = nil
	return lags
}
