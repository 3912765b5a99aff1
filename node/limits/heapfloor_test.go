package limits

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/internal/testkit"
)

// goalOf is the formula of Go's collector, of runtime/mgcpacer.go.
func goalOf(percent int, live, roots int64) int64 {
	p := int64(percent)
	return max(live+(live+roots)*p/100, MinHeapFloor*p/100)
}

func TestTheGoalIsTheFloorOrWhatGoWouldHaveWithoutIt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		floor := rapid.Int64Range(MinHeapFloor, 1<<40).Draw(t, "floor")
		live := rapid.OneOf(rapid.Int64Range(0, 1<<42), rapid.Int64Range(0, floor)).Draw(t, "live")
		roots := rapid.Int64Range(0, 1<<30).Draw(t, "roots")
		goal := goalOf(percentFor(floor, live, roots), live, roots)
		plain, most := goalOf(plainPercent, live, roots), goalOf(mostPercent, live, roots)
		// A step of GOGC is a hundredth of the bytes that the collector looks through.
		step := max(live+roots, MinHeapFloor)/100 + 1
		if want := min(max(floor, plain), most); goal > want || goal < want-step {
			t.Errorf("the goal is %d, want %d, less a step of %d", goal, want, step)
		}
	})
}

func TestTheDefaultFloorIsASmallShareOfTheMemoryLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := Memory{rapid.OneOf(rapid.Int64Range(64<<20, 8<<30),
			rapid.Int64Range(64<<20, math.MaxInt64)).Draw(t, "limit"), "test"}
		c := m.DefaultHeap()
		if problems := c.Validate(); len(problems) > 0 || c.FloorBytes > m.Limit/8 {
			t.Errorf("of %s the floor is %d: %v", FormatMebibytes(m.Limit), c.FloorBytes, problems)
		}
		if m.Limit >= 512<<20 && c.FloorBytes != DefaultHeapConfig().FloorBytes {
			t.Errorf("of %s the floor is %d", FormatMebibytes(m.Limit), c.FloorBytes)
		}
	})
}

// readPercent returns GOGC as it is.
func readPercent() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}

// collectUntil collects until GOGC is as wanted.
func collectUntil(t *testing.T, what string, wanted func(percent int) bool) {
	t.Helper()
	testkit.Eventually(t, what, func() bool {
		runtime.GC()
		return wanted(readPercent())
	})
}

func isPlain(percent int) bool { return percent == plainPercent }

// unsetGOGC takes GOGC out of the environment until the end of the test.
func unsetGOGC(t *testing.T) {
	t.Helper()
	t.Setenv("GOGC", "")
	was := debug.SetGCPercent(plainPercent)
	t.Cleanup(func() { debug.SetGCPercent(was) })
}

func TestABusyHubHasTheFloorUntilItsEnd(t *testing.T) {
	unsetGOGC(t)
	f := KeepHeapFloor(HeapConfig{FloorBytes: 512 << 20})
	collectUntil(t, "a floor", func(percent int) bool { return percent > plainPercent })
	f.Close()
	for range 10 {
		runtime.GC()
		if percent := readPercent(); !isPlain(percent) {
			t.Fatalf("GOGC is %d behind Close", percent)
		}
	}
	f.Close() // again
}

func TestAQuietHubHasNoFloor(t *testing.T) {
	unsetGOGC(t)
	f := KeepHeapFloor(HeapConfig{FloorBytes: 512 << 20})
	defer f.Close()
	collectUntil(t, "a floor", func(percent int) bool { return percent > plainPercent })
	testkit.Eventually(t, "no floor", func() bool {
		f.mu.Lock()
		f.last = time.Now().Add(-quietTime) // the collection before is as long ago
		f.mu.Unlock()
		runtime.GC()
		return isPlain(readPercent())
	})
	collectUntil(t, "a floor again", func(percent int) bool { return percent > plainPercent })
}

func TestALargeHeapIsCollectedAsWithoutAFloor(t *testing.T) {
	unsetGOGC(t)
	f := KeepHeapFloor(HeapConfig{FloorBytes: 64 << 20})
	defer f.Close()
	collectUntil(t, "a floor", func(percent int) bool { return percent > plainPercent })
	large := make([]byte, 64<<20)
	collectUntil(t, "no floor", isPlain)
	runtime.KeepAlive(large)
	collectUntil(t, "a floor again", func(percent int) bool { return percent > plainPercent })
}

func TestTheOperatorsGOGCIsLeftAlone(t *testing.T) {
	unsetGOGC(t)
	t.Setenv("GOGC", "150")
	debug.SetGCPercent(150) // as Go does with the variable at the start of a process
	f := KeepHeapFloor(HeapConfig{FloorBytes: 512 << 20})
	for range 10 {
		runtime.GC()
		if percent := readPercent(); percent != 150 {
			t.Fatalf("GOGC is %d", percent)
		}
	}
	f.Close()
	if percent := readPercent(); percent != 150 {
		t.Errorf("behind Close GOGC is %d", percent)
	}
}

func TestAFloorBelowGosOwnIsAProblem(t *testing.T) {
	c := HeapConfig{FloorBytes: MinHeapFloor - 1}
	if problems := c.Validate(); len(problems) != 1 || problems[0].Field != "FloorBytes" {
		t.Errorf("got %v", problems)
	}
}

func TestTheMemoryLimitComesBeforeTheFloor(t *testing.T) {
	unsetGOGC(t)
	const limit = 256 << 20 // far above the need of this test, also with the race detector
	was := debug.SetMemoryLimit(limit)
	defer debug.SetMemoryLimit(was)
	f := KeepHeapFloor(HeapConfig{FloorBytes: 4 * limit})
	defer f.Close()
	collectUntil(t, "a floor", func(percent int) bool { return percent > plainPercent })
	sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
	metrics.Read(sample)
	if goal := sample[0].Value.Uint64(); goal > limit {
		t.Errorf("the goal is %d, above the limit of %d", goal, limit)
	}
}
