//go:build bench && linux

package engine

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/plain"
)

const (
	// silent is the number of clients that do nothing.
	silent = 15_000
	// heartbeat is the interval of their pings. During silence each client gets two pings.
	heartbeat = 5 * time.Second
	silence   = 13 * time.Second
)

// counting is the plain protocol. It counts the messages of clients.
type counting struct {
	plain.Protocol

	received *atomic.Int64
}

// Receive counts a message.
func (p counting) Receive(*hub.Connection, hub.PayloadKind, []byte) error {
	p.received.Add(1)
	return nil
}

// measureIdle measures the cost of silent clients. Each is a user of its own, in the group of all
// clients and in a group of its own. Memory is the growth of the hub's process since it was empty.
func measureIdle() ([]row, error) { return idle(link{memory: 4, goroutines: 0.01}) }

// measureIdleGoroutine measures the same with a goroutine for each client instead of a poller.
func measureIdleGoroutine() ([]row, error) {
	return idle(link{memory: 10, edge: func(c *edge.Config) { c.GoroutinePerLink = true }})
}

// measureIdleTLS measures the same under TLS.
func measureIdleTLS() ([]row, error) { return idle(link{memory: 16, tls: true}) }

// link is a way to carry connections, and the targets of a connection; 0: no target.
type link struct {
	edge       func(*edge.Config)
	tls        bool
	memory     float64 // KB
	goroutines float64
}

func idle(l link) ([]row, error) {
	config := reference()
	config.edge, config.tls = l.edge, l.tls
	received := new(atomic.Int64)
	config.keep, config.heartbeat, config.plain = false, heartbeat, counting{received: received}
	b, err := newBed(config)
	if err != nil {
		return nil, err
	}
	empty, err := resident()
	if err != nil {
		return nil, err
	}
	goroutines := runtime.NumGoroutine()
	if err := b.open(opening{Path: clientPath("own-{i}"), Count: silent, TLS: l.tls}); err != nil {
		return nil, err
	}

	grown := func(name string) (row, error) {
		now, err := resident()
		return row{
			Name: name, Value: float64(now-empty) / 1000 / silent, Unit: "KB", Target: l.memory,
		}, err
	}
	time.Sleep(silence)
	before, err := grown("memory of one, after two pings")
	if err != nil {
		return nil, err
	}
	for _, o := range []order{{Speak: "hello"}, {Halve: "hello"}} {
		received.Store(0)
		if _, err := b.order(o); err != nil {
			return nil, err
		}
		if err := eventually("what clients say", func() bool {
			return received.Load() == silent
		}); err != nil {
			return nil, err
		}
	}
	if _, err := b.deliver(shared, text); err != nil {
		return nil, err
	}
	if err := b.drain(silent, b.frame); err != nil {
		return nil, err
	}
	settle()
	after, err := grown("memory of one, after traffic and half frames")
	if err != nil {
		return nil, err
	}
	left := float64(runtime.NumGoroutine()-goroutines) / silent
	return []row{
		before, after, {Name: "goroutines of one", Value: left, Target: l.goroutines},
	}, b.end()
}

// resident returns the memory of this process, in bytes, after all garbage has gone back to the
// system.
func resident() (int64, error) {
	runtime.GC() // objects with a finalizer go in the second round, by FreeOSMemory
	debug.FreeOSMemory()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, pages int64
	_, err = fmt.Fscan(bytes.NewReader(statm), &size, &pages)
	return pages * int64(os.Getpagesize()), err
}
