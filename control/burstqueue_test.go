package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// newRoomyFixture is newFixture with outboxes of the default size.
func newRoomyFixture(t *testing.T) *fixture {
	t.Helper()
	var roomy *hub.Hub
	f := newFixture(t, func(c *Config) {
		roomy = newHub(t, func(c *hub.Config) { c.Outbox = hub.DefaultConfig().Outbox })
		c.Hub = roomy
	})
	f.hub = roomy
	return f
}

func toLobby(words string) *controlv1.SendRequest {
	return to(&controlv1.Target{Groups: []string{"lobby"}}, words)
}

// requests sends a request for each send, from a sequence on.
func (b *backend) requests(t *testing.T, from int64, sends ...*controlv1.SendRequest) {
	t.Helper()
	for i, send := range sends {
		b.send(t, batch(from+int64(i), send))
	}
}

// numberedSends returns sends to the group lobby, and all that its members receive of them.
func numberedSends(n int) (sends []*controlv1.SendRequest, all string) {
	var received strings.Builder
	for i := range n {
		sends = append(sends, toLobby(fmt.Sprint(i)))
		fmt.Fprintf(&received, "%d|", i)
	}
	return sends, received.String()
}

// taken returns the number of sends that streams have taken.
func (f *fixture) taken(t *testing.T) int {
	t.Helper()
	return f.metric(t, "connhub_grpc_stream_sends_total")
}

// openGate gives a token for each write until the backend has so many results.
func (b *backend) openGate(t *testing.T, gate chan<- struct{}, results int) {
	t.Helper()
	openGate(gate, func() { b.until(t, func() bool { return len(b.results) >= results }) })
}

// openGate gives a token for each write until await returns.
func openGate(gate chan<- struct{}, await func()) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		await()
	}()
	for {
		synctest.Wait()
		select {
		case gate <- struct{}{}:
		case <-over:
			return
		}
	}
}

// Requests that come while a write is under way share the next write, in their order. Their results
// share responses, as those of a batch do.
func TestRequestsThatWaitShareAWrite(t *testing.T) {
	// With more than a burst behind the first, the receiver may write some sends itself, while the
	// handler is busy with results.
	const some = maxBurst / 4
	for _, shape := range []struct{ underWay, writes, responses int }{
		{1, 1, 1}, {8, 2, 1}, {1 + maxBurst, 2, 2}, {2 * maxBurst, some, some},
	} {
		t.Run(fmt.Sprint(shape.underWay), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, gate := newRoomyFixture(t), make(chan struct{})
				ann := f.connect(t, &wireProtocol{}, "ann", "lobby")
				slow := f.connect(t, &wireProtocol{}, "slow", "lobby")
				slow.gate = gate
				b := f.stream(t.Context(), t)
				synctest.Wait()
				sends, all := numberedSends(shape.underWay)
				b.requests(t, 1, sends[0])
				synctest.Wait()
				b.requests(t, 2, sends[1:]...)
				synctest.Wait()
				// At most a burst gathers behind the first.
				if n := f.taken(t); n != min(shape.underWay, 1+maxBurst) {
					t.Errorf("%d sends were taken", n)
				}
				b.openGate(t, gate, shape.underWay)
				for _, c := range []*client{ann, slow} {
					if c.received() != all || c.written() > shape.writes {
						t.Errorf("received %q in %d writes", c.received(), c.written())
					}
				}
				if !slices.IsSorted(b.order) || b.responses > shape.responses {
					t.Errorf("results in %d responses: %v", b.responses, b.order)
				}
				for sequence := range b.results {
					holdReceipt(t, &controlv1.Receipt{
						Matched: 2, Written: 2, NotAckable: 2,
					}, b.receipt(t, sequence))
				}
				b.closeSend(t)
				if err := b.end(t); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// The bytes of requests bound a burst, too.
func TestABurstIsBoundedInBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, gate := newRoomyFixture(t), make(chan struct{})
		f.connect(t, &wireProtocol{}, "slow", "lobby").gate = gate
		b := f.stream(t.Context(), t)
		synctest.Wait()
		send := toLobby(long(30 << 10))
		fits := (maxBurstBytes + requestWeight(send) - 1) / requestWeight(send)
		b.requests(t, 1, send)
		synctest.Wait()
		for i := range fits + 1 { // the last is more than a burst takes
			b.requests(t, int64(i+2), send)
		}
		synctest.Wait()
		if n := f.taken(t); n != 1+fits {
			t.Errorf("%d sends were taken, want %d", n, 1+fits)
		}
		b.openGate(t, gate, 1+fits+1)
		b.closeSend(t)
		if err := b.end(t); err != nil {
			t.Error(err)
		}
	})
}

// From some sends on, so do deliveries: each is work that another caller's message may wait for.
func TestABurstIsBoundedInDeliveries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const members = 4000
		f, crowd, gate := newRoomyFixture(t), groupOf(members), make(chan struct{})
		crowd.connect(t, f, nil)
		f.connect(t, &wireProtocol{}, "slow", "lobby").gate = gate
		b := f.stream(t.Context(), t)
		synctest.Wait()
		const fits = (maxBurstDeliveries + members) / (members + 1)
		for i := range 1 + fits + 10 {
			b.requests(t, int64(i+1), toLobby("x"))
			synctest.Wait()
		}
		if n := f.taken(t); n != 1+fits {
			t.Errorf("%d sends were taken, want %d", n, 1+fits)
		}
		b.openGate(t, gate, 1+fits+10)
		endStreams(t, b)
	})
}

// A stream that rests after a large burst keeps hardly more memory than after a small one. Its
// bursts keep none: the bound is for what the transport and pools keep.
func TestAStreamThatRestsKeepsLittle(t *testing.T) {
	const streams, members, most = 128, 1000, 8 << 10
	f := newRoomyFixture(t)
	var clients []*client
	for range members {
		clients = append(clients, f.connect(t, &tinyProtocol{}, "ann", "lobby"))
	}
	sends := []*controlv1.SendRequest{toLobby("x")} // it has as many writes as members
	for len(sends) < maxBurst {
		sends = append(sends, to(users("nobody"), "x"))
	}
	all := make([]*backend, streams+1)
	for i := range all {
		all[i] = f.stream(t.Context(), t)
	}
	use := func(b *backend, sends ...*controlv1.SendRequest) {
		b.send(t, batch(b.accepted+1, sends...))
		b.until(t, func() bool { return len(b.results) == len(sends) })
	}
	// inUse leaves out what tests keep of a stream.
	inUse := func() int64 {
		for _, c := range clients {
			c.wire.Reset()
		}
		for _, b := range all {
			b.results, b.order = map[int64]*controlv1.StreamedResult{}, nil
		}
		return int64(memoryInUse())
	}
	for _, b := range all {
		use(b, to(users("nobody"), "x"))
	}
	inUse()
	use(all[streams], sends...) // the clients have buffers now
	before := inUse()
	for _, b := range all[:streams] {
		use(b, sends...)
	}
	each := (inUse() - before) / streams
	t.Logf("%d bytes for each stream", each)
	if each > most {
		t.Errorf("each stream keeps %d bytes, more than %d", each, most)
	}
	for _, b := range all {
		b.closeSend(t)
		if err := b.end(t); err != nil {
			t.Error(err)
		}
	}
}

// A flood on one stream may delay a message of another stream only if both write to the same
// client: the message is written with the flood's next burst. A message to a different client does
// not wait at all.
func TestAFloodDelaysOthersByABurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, gate := newRoomyFixture(t), make(chan struct{})
		ann := f.connect(t, &wireProtocol{}, "ann", "lobby")
		bob := f.connect(t, &wireProtocol{}, "bob")
		f.connect(t, &wireProtocol{}, "slow", "lobby").gate = gate
		flood, other := f.stream(t.Context(), t), f.stream(t.Context(), t)
		synctest.Wait()
		const n = maxBurst + 200
		sends, _ := numberedSends(n)
		flood.requests(t, 1, sends[0])
		synctest.Wait()
		flood.requests(t, 2, sends[1:]...)
		synctest.Wait()
		if n := f.taken(t); n != 1+maxBurst {
			t.Errorf("%d sends of the flood were taken", n)
		}
		other.requests(t, 1, to(users("bob"), "now"), to(users("ann"), "next"))
		other.until(t, func() bool { return len(other.results) == 2 })
		if bob.received() != "now|" {
			t.Errorf("bob received %q", bob.received())
		}
		flood.openGate(t, gate, n)
		at := strings.Index(ann.received(), "next|")
		if sent := strings.Count(ann.received()[:max(at, 0)], "|"); at < 0 || sent > 1+maxBurst {
			t.Errorf("ann received %q", ann.received())
		}
		for _, b := range []*backend{flood, other} {
			b.closeSend(t)
			if err := b.end(t); err != nil {
				t.Error(err)
			}
		}
	})
}

// A backend that does not read its results blocks the handler of its stream. Its sends are written
// all the same, because messages of other callers may be behind them.
func TestSendsOfABackendThatDoesNotReadAreWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newRoomyFixture(t)
		ann := f.connect(t, &wireProtocol{}, "ann", "lobby")
		b := f.stream(t.Context(), t)
		const n = 300
		sends, all := numberedSends(n)
		for i, send := range sends {
			send.Message.Id = long(1000) // comes back
			b.requests(t, int64(i+1), send)
			synctest.Wait()
		}
		given := f.metric(t, "connhub_grpc_stream_results_total")
		if taken := f.taken(t); taken != n || given >= n {
			t.Errorf("%d sends were taken, %d results given", taken, given)
		}
		if ann.received() != all {
			t.Errorf("received %q", ann.received())
		}
		b.closeSend(t)
		if err := b.end(t); err != nil || len(b.results) != n {
			t.Errorf("%v with %d results", err, len(b.results))
		}
	})
}

// A backend that keeps several requests under way to many clients gets a write for all of them: the
// stream waits for as many as before, but only a moment.
func TestManyWritesWaitForTheRequestsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, p := newRoomyFixture(t), &wireProtocol{}
		ann := f.connect(t, p, "ann", "lobby")
		for range manyWrites {
			f.connect(t, p, "crowd", "lobby")
		}
		b := f.stream(t.Context(), t)
		synctest.Wait()
		sends, _ := numberedSends(8)
		b.send(t, batch(1, sends...))
		b.until(t, func() bool { return len(b.results) == 8 })
		writes := ann.written()
		start := time.Now()
		for i, send := range sends {
			b.requests(t, int64(9+i), send)
			synctest.Wait()
			if have := ann.written() - writes; have != i/7 {
				t.Errorf("%d writes after %d requests", have, i+1)
			}
		}
		b.until(t, func() bool { return len(b.results) == 16 })
		if took := time.Since(start); ann.written() != writes+1 || took != 0 {
			t.Errorf("%d writes for 8 requests, after %v", ann.written()-writes, took)
		}
		b.requests(t, 17, sends[0])
		b.until(t, func() bool { return len(b.results) == 17 })
		const want = (manyWrites + 1) * waitPerWrite
		if took := time.Since(start); took != want {
			t.Errorf("a request that comes alone was written after %v, want %v", took, want)
		}
		b.requests(t, 18, sends[0])
		b.until(t, func() bool { return len(b.results) == 18 })
		if took := time.Since(start); took != want {
			t.Errorf("a request that comes alone again waited: %v", took-want)
		}
		b.closeSend(t)
		if err := b.end(t); err != nil {
			t.Error(err)
		}
	})
}
