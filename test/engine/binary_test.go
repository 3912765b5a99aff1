//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"time"
)

// worse is added to the targets of the binary: it may be as much worse than its parts.
const worse = 0.1

// alone is the flag of a binary without a cluster.
const alone = "--single-hub"

// newEmptyBed returns a bed whose hub is the binary, without clients.
func newEmptyBed(shipped *blackBox) (*bed, error) {
	load, err := startChild(loadRole, loadCore)
	if err != nil {
		return nil, err
	}
	return &bed{
		clients: shipped.Clients, backends: shipped.Control, frame: len(textFrame), load: load,
	}, nil
}

// newShippedBed returns a bed whose hub is the binary. The reference writes to as many sockets of a
// different server.
func newShippedBed(shipped *blackBox, clients int, path string) (*bed, error) {
	b, err := newEmptyBed(shipped)
	if err != nil {
		return nil, err
	}
	others, err := b.keepOthers()
	if err != nil {
		return nil, err
	}
	return b, b.bring(clients, path, shipped.Clients, others)
}

// bring connects that many clients to each address. Each client is a user-{i} of its own; the
// numbers begin at the first address.
func (b *bed) bring(clients int, path string, addresses ...string) error {
	for i, address := range addresses {
		o := opening{Address: address, Path: path, First: i * clients, Count: clients}
		if _, err := b.order(order{Open: &o}); err != nil {
			return err
		}
	}
	return nil
}

// measureBinary measures fan-out and bursts, called over gRPC, beside raw writes to as many sockets
// of a server without other work.
func measureBinary() ([]row, error) {
	shipped, err := startBinary(alone)
	if err != nil {
		return nil, err
	}
	defer shipped.kill()
	groups := manyGroups()
	b, err := newShippedBed(shipped, audience, clientPath(groups...))
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, way := range []struct {
		name   string
		call   call
		raw    []byte
		target float64
	}{
		{"one at a time, SendStream", call{Count: 1, Batch: 1}, textFrame, 1.15},
		{"a batch of 8 to one group, SendStream", call{
			Count: burst, Batch: burst,
		}, coalesced, 1.25},
		{"a batch of 8 to 8 groups, SendStream", call{
			Count: burst, Batch: burst, Groups: groups,
		}, coalesced, 1.4},
		{"8 calls of Send at once", call{Count: burst, Unary: true}, coalesced, 2.3},
	} {
		took, err := rounds(cpu(shipped), pairs, b.several(way.call), b.raw(audience, way.raw))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way.name, err)
		}
		if way.call.Count == 1 {
			rows = append(rows, fanoutRows(way.name, took, way.target+worse, ownTarget+worse)...)
			continue
		}
		rows = append(rows, ratio(way.name, audience*way.call.Count, took, way.target+worse))
	}
	return rows, b.load.stop()
}

// measureBinaryUnicast measures the same as measureUnicast.
func measureBinaryUnicast() ([]row, error) {
	return besideAnswers(func(b *bed, answers string, clock func() time.Duration) ([]row, error) {
		return b.unicasts(answers, clock, worse)
	})
}

// besideAnswers measures the binary with many users, beside the handler that only answers.
func besideAnswers(
	measure func(b *bed, answers string, clock func() time.Duration) ([]row, error),
) ([]row, error) {
	shipped, err := startBinary(alone)
	if err != nil {
		return nil, err
	}
	defer shipped.kill()
	answers, err := serveAnswerer()
	if err != nil {
		return nil, err
	}
	b, err := newShippedBed(shipped, users, clientPath())
	if err != nil {
		return nil, err
	}
	rows, err := measure(b, answers, cpu(shipped))
	return rows, errors.Join(err, b.load.stop())
}

// measureBinaryIdle measures the same as measureIdle. A test cannot make the binary return memory
// to the system, so the figure leaves out the memory that the collector has freed and keeps. The
// second row includes it, and the third row also the garbage of the handshakes.
func measureBinaryIdle() ([]row, error) {
	shipped, err := startBinary(alone, "--ping-interval", heartbeat.String())
	if err != nil {
		return nil, err
	}
	defer shipped.kill()
	b, err := newEmptyBed(shipped)
	if err != nil {
		return nil, err
	}
	return b.idleBinary(shipped, 4+worse, func() error {
		return b.bring(silent, clientPath("own-{i}"), shipped.Clients)
	})
}

// idleBinary measures silent clients of the binary, and ends the bed. open connects them.
func (b *bed) idleBinary(shipped *blackBox, target float64, open func() error) ([]row, error) {
	empty, err := shipped.memory()
	if err != nil {
		return nil, err
	}
	if err := open(); err != nil {
		return nil, err
	}
	time.Sleep(silence)
	seen, err := shipped.metrics(residentMemory)
	if err != nil {
		return nil, err
	}
	full, err := shipped.memory()
	if err != nil {
		return nil, err
	}
	of := func(now, before float64) float64 { return (now - before) / silent }
	return []row{
		{
			Name: "memory of one, after two pings", Value: of(full.used, empty.used) / 1000,
			Unit: "KB", Target: target,
		},
		{
			Name:  "  with what the collector keeps",
			Value: of(full.resident, empty.resident) / 1000, Unit: "KB",
		},
		{
			Name:  "  with garbage, as the system sees it",
			Value: of(seen[0], empty.resident) / 1000, Unit: "KB",
		},
		{Name: "goroutines of one", Value: of(full.goroutines, empty.goroutines), Target: 0.01},
	}, b.load.stop()
}

// residentMemory is the metric of a binary's memory, as the system sees it, in bytes.
const residentMemory = "process_resident_memory_bytes"

// memory is the memory of a binary, in bytes, and its goroutines.
type memory struct{ resident, used, goroutines float64 }

func (b *blackBox) memory() (memory, error) {
	for range 2 { // objects with a finalizer go in the second round
		if _, err := b.get("/debug/pprof/heap?gc=1"); err != nil {
			return memory{}, err
		}
	}
	v, err := b.metrics(residentMemory,
		"go_memstats_heap_idle_bytes", "go_memstats_heap_released_bytes", "go_goroutines")
	if err != nil {
		return memory{}, err
	}
	return memory{resident: v[0], used: v[0] - (v[1] - v[2]), goroutines: v[3]}, nil
}
