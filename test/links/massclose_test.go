package links

import (
	"maps"
	"testing"
	"time"

	"google.golang.org/grpc"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

const (
	// massLimit bounds a mass close, from the call to the last socket. A client gets 5 s to answer
	// its close. Twice as much is for hub and clients, which share the processors under the race
	// detector.
	massLimit = 15 * time.Second
	// massCode is the close that a backend chooses.
	massCode   = 4001
	massReason = "all of you"
)

// masses is the number of clients to close. Under the race detector it is smaller, for the duration
// of handshakes; the detector also ends a program with more than 8,128 goroutines, so 15,000
// clients with a goroutine each are impossible.
func (d door) masses() int {
	switch {
	case bed.Long:
		return 15_000
	case d.secure:
		return 300
	default:
		return 750
	}
}

// guestsOf is as many as a process of guests has.
const guestsOf = 3750

// TestMassCloseLeavesNothing proves that a single call, or SIGTERM, ends all clients in seconds,
// each with its code. Afterwards the hub has the goroutines, files and memory of before. A second
// round gives the same.
func TestMassCloseLeavesNothing(t *testing.T) {
	t.Parallel()
	eachDoor(t, func(t *testing.T, d door) {
		p := d.open(t)
		backend := bed.DialControl(t, p.Control)
		guests := d.hire(t)
		count := d.masses()

		// The first clients make the hub allocate memory that it then keeps for all later clients.
		d.fill(t, p, guests, len(guests))
		massClose(t, p, backend, guests, len(guests))
		before := remainsOf(t, p, anything)
		round := func() remains {
			began := time.Now()
			d.fill(t, p, guests, count)
			in, full := time.Since(began), p.Vitals(t)
			took := massClose(t, p, backend, guests, count)
			after := remainsOf(t, p, before.Vitals)
			t.Logf("%d clients came in %v; the hub had %+v; they were gone %v after the call; "+
				"before %+v, after %+v",
				count, in, full, took, before, after)
			after.check(t, before)
			return after
		}
		first := round()
		if left, most := first.heap-before.heap, mayLeave(count); left > most {
			t.Errorf("%d bytes of heap are left of %d connections, bound %d", left, count, most)
		}
		checkNoGrowth(t, first, count, round)

		d.fill(t, p, guests, count)
		began := time.Now()
		p.Terminate()
		select {
		case <-p.Ended:
		case <-time.After(bed.StopLimit):
			t.Fatalf("the hub is still there %v after SIGTERM", bed.StopLimit)
		}
		t.Logf("the hub was gone %v after SIGTERM", time.Since(began))
		checkEnds(t, guests, count, bed.ClosedError{Code: 1001, Reason: "hub is shutting down"})
	})
}

// checkNoGrowth checks that some round adds nothing. A resource that the hub forgets to release is
// forgotten in each round. A new maximum of goroutines adds to the heap too, but all rounds
// together add at most one descriptor for each link.
func checkNoGrowth(t *testing.T, last remains, count int, round func() remains) {
	t.Helper()
	most := mayAdd(count)
	for range count*leftOfGoroutine/most + 1 {
		next := round()
		if next.heap-last.heap <= most {
			return
		}
		last = next
	}
	t.Errorf("each time %d connections leave more than %d bytes of heap behind", count, most)
}

// hire starts the processes of the guests.
func (d door) hire(t *testing.T) (guests []*bed.Helper) {
	t.Helper()
	for range (d.masses() + guestsOf - 1) / guestsOf {
		guests = append(guests, bed.StartPromptHelper(t, guestsRole))
	}
	return guests
}

// fill brings so many attentive guests in, a part from each process.
func (d door) fill(t *testing.T, p *bed.Process, guests []*bed.Helper, count int) {
	t.Helper()
	for i, g := range guests {
		g.Tell(t, guestOrder{Come: &party{
			Clients: count*(i+1)/len(guests) - count*i/len(guests), Manners: attentive,
			Address: p.Clients, Path: "/ws?group=all", Secure: d.secure, Network: i + 1,
		}})
	}
	for _, g := range guests {
		newsOf(t, g)
	}
	testkit.Eventually(t, "all are in", func() bool {
		return p.Sum(t, "connhub_links") == count
	})
}

// newsOf waits for the news of the guests of a process.
func newsOf(t *testing.T, h *bed.Helper) (n guestNews) {
	t.Helper()
	h.Hear(t, &n)
	return n
}

// awaitGone waits until the guests of a process are gone.
func awaitGone(t *testing.T, h *bed.Helper) guestNews {
	t.Helper()
	h.Tell(t, guestOrder{Gone: true})
	return newsOf(t, h)
}

// massClose closes all clients with a single call, and returns the time until the last socket was
// gone.
func massClose(
	t *testing.T, p *bed.Process, backend *grpc.ClientConn, guests []*bed.Helper, count int,
) time.Duration {
	t.Helper()
	meter := p.NewMeter()
	defer meter.Stop()
	began := time.Now()
	closed, err := controlv1.NewConnectionServiceClient(backend).CloseConnections(t.Context(),
		&controlv1.CloseConnectionsRequest{
			Target: &controlv1.Target{Everyone: true}, MaxMatched: int32(count), Code: massCode,
			Reason: massReason,
		})
	if err != nil || int(closed.GetClosed()) != count {
		t.Fatalf("closed %v, %v", closed, err)
	}
	testkit.Eventually(t, "all are gone", func() bool { return p.Sum(t, "connhub_links") == 0 })
	took := time.Since(began)
	checkEnds(t, guests, count, bed.ClosedError{Code: massCode, Reason: massReason})
	if limit := meter.Limit(massLimit); took > limit {
		t.Errorf("%d connections took %v to end, limit %v", count, took, limit)
	}
	return took
}

// checkEnds holds that each connection ended in the same way.
func checkEnds(t *testing.T, guests []*bed.Helper, count int, how bed.ClosedError) {
	t.Helper()
	ends := map[string]int{}
	for _, g := range guests {
		for how, n := range awaitGone(t, g).Ends {
			ends[how] += n
		}
	}
	if want := map[string]int{how.Error(): count}; !maps.Equal(ends, want) {
		t.Errorf("the connections ended as %v, want %v", ends, want)
	}
}
