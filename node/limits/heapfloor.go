package limits

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/connhub/connhub/internal/config"
)

const (
	// MinHeapFloor is the least of HeapConfig.FloorBytes: Go's own floor with GOGC=100.
	MinHeapFloor = 4 << 20
	// defaultHeapFloor is FloorBytes on a large machine. A call of Send to one of 1,000 clients
	// then takes 31 µs, and 38 without a floor. Twice as much saves little more.
	defaultHeapFloor = 64 << 20
	// heapFloorShare is the divisor for the part of the memory limit that the floor may take. The
	// heap within it counts: live bytes and garbage together.
	heapFloorShare = 8
	// quietTime is the time between two collections from which on the hub counts as quiet. Then
	// the collector costs little, and the memory below the floor goes back to the system. Go
	// collects every 2 minutes at least.
	quietTime = time.Minute
	// plainPercent is Go's default for GOGC: the heap may double between two collections.
	plainPercent = 100
	// mostPercent bounds GOGC. Until a collection is followed by the next setting, a heap that
	// grows at once may grow by this percentage. From here on less garbage saves little.
	mostPercent = 400
)

// HeapConfig configures a HeapFloor. DefaultHeapConfig fills it.
type HeapConfig struct {
	// FloorBytes is the size of Go's heap that is not worth a collection while the hub is busy. At
	// least MinHeapFloor.
	FloorBytes int64
}

// DefaultHeapConfig returns the floor of a large machine.
func DefaultHeapConfig() HeapConfig { return HeapConfig{FloorBytes: defaultHeapFloor} }

// Validate returns all problems of c.
func (c *HeapConfig) Validate() config.Problems {
	var p config.Problems
	p.Require(c.FloorBytes >= MinHeapFloor,
		"FloorBytes", "is %d, must be at least %d, which is Go's own", c.FloorBytes, MinHeapFloor)
	return p
}

// DefaultHeap returns the HeapConfig for this limit: a share of it, and at most that of a large
// machine.
func (m Memory) DefaultHeap() HeapConfig {
	c := DefaultHeapConfig()
	c.FloorBytes = max(MinHeapFloor, min(c.FloorBytes, m.Limit/heapFloorShare))
	return c
}

// OperatorTunesHeap reports whether the operator has set GOGC. Then a HeapFloor does nothing.
func OperatorTunesHeap() bool { return os.Getenv("GOGC") != "" }

// describeFloor returns the floor for people.
func (c *HeapConfig) describeFloor() string {
	if OperatorTunesHeap() {
		return "none, GOGC is set"
	}
	return FormatMebibytes(c.FloorBytes)
}

// HeapFloor keeps the goal of Go's collector at a floor while the hub is busy.
//
// Problem: with GOGC=100 the heap may double between two collections. The heap of a hub with few
// clients is small, so a collection is due every few hundred calls. Go has no floor to set: its own
// is 4 MiB. A large object that is never touched (a ballast) would count in GOMEMLIMIT and in all
// figures about memory.
//
// Rules: behind each collection GOGC is set anew. The next goal is then the larger of the floor and
// the goal of GOGC=100, and at most the goal of GOGC=400. A heap above half of the floor is
// collected as without a floor. GOMEMLIMIT comes before GOGC in the collector itself. A quiet hub
// has no floor.
//
// Outline: the runtime calls a cleanup of an object that nothing leads to, soon after a collection
// has found it. The object is among the smallest with a pointer, because the runtime looks through
// these early. Until the cleanup has run, the goal follows the GOGC of the collection before: a
// heap that grows to the floor at once may meanwhile grow to five times the floor, or to
// GOMEMLIMIT.
//
// HeapFloor has no goroutine of its own. It is safe for concurrent use. A process should have one.
type HeapFloor struct {
	bytes int64 // fixed

	mu      sync.Mutex
	closed  bool
	last    time.Time // of the last collection; at first the time of the start
	samples [3]metrics.Sample
}

// KeepHeapFloor sets GOGC behind each collection until Close. It does nothing if the operator has
// set GOGC.
func KeepHeapFloor(c HeapConfig) *HeapFloor {
	f := &HeapFloor{bytes: c.FloorBytes, last: time.Now(), closed: OperatorTunesHeap()}
	for i, name := range []string{
		"/gc/heap/live:bytes", "/gc/scan/stack:bytes", "/gc/scan/globals:bytes",
	} {
		f.samples[i].Name = name
	}
	f.awaitCollection()
	return f
}

// Close sets GOGC back.
func (f *HeapFloor) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		debug.SetGCPercent(plainPercent)
	}
}

// awaitCollection makes the runtime call noteCollection behind the next collection.
func (f *HeapFloor) awaitCollection() {
	unheld := new(*HeapFloor) // 8 bytes with a pointer, so that the runtime keeps it apart
	runtime.AddCleanup(unheld, (*HeapFloor).noteCollection, f)
}

// noteCollection sets GOGC for the next collection. The runtime calls it.
func (f *HeapFloor) noteCollection() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	defer f.awaitCollection()
	now := time.Now()
	isQuiet := now.Sub(f.last) >= quietTime
	f.last = now
	percent := plainPercent
	if !isQuiet {
		metrics.Read(f.samples[:])
		live, roots := f.sampleBytes(0), f.sampleBytes(1)+f.sampleBytes(2)
		percent = percentFor(f.bytes, live, roots)
	}
	debug.SetGCPercent(percent)
}

func (f *HeapFloor) sampleBytes(i int) int64 {
	return int64(f.samples[i].Value.Uint64()) //nolint:gosec // the bytes of a process
}

// percentFor returns the GOGC with which the collector's goal is floor bytes, at most mostPercent,
// or plainPercent if that has a higher goal. live are the bytes that the last collection has found
// in use, and roots those of stacks and globals.
//
// The goal is live + (live+roots)·GOGC/100, and at least MinHeapFloor·GOGC/100.
func percentFor(floor, live, roots int64) int {
	percent := floor * 100 / MinHeapFloor
	if scanned := live + roots; scanned > 0 {
		percent = min(percent, (floor-live)*100/scanned)
	}
	return int(max(plainPercent, min(percent, mostPercent)))
}
