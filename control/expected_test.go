package control

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/expected"
)

// Sends to many clients that come one after the other, each on a stream of its own, share a write
// to each client once the streams have told a result. As many calls of Send cost a write each.
func TestStreamsShareTheWritesToMany(t *testing.T) {
	const rounds, streams = 3, 8
	for _, connections := range []int{1, streams} {
		c := caller{streams, connections, 1, streams}
		for name, way := range map[string]struct {
			newSender func(*testing.T, *fixture, caller) sender
			writes    int // to each client in a round
		}{
			"streams": {newStreamSender, 1},
			"calls":   {newCallSender, streams},
		} {
			t.Run(fmt.Sprintf("%s over %d connections", name, connections), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f, gate, to := newRoomyFixture(t), make(chan struct{}), groupOf(manyWrites+1)
					clients := to.connect(t, f, gate)
					s := way.newSender(t, f, c)
					beginApart(to, s, streams) // they all wait for the writes of the first
					openGate(gate, s.await)
					close(gate)
					writes := totalWrites(clients)
					start := time.Now()
					for range rounds {
						beginApart(to, s, streams)
						s.await()
					}
					if took := time.Since(start); took != 0 {
						t.Errorf("sends waited for %v, though all came", took)
					}
					want := rounds * way.writes * len(clients)
					if writes = totalWrites(clients) - writes; writes != want {
						t.Errorf("%d writes, want %d", writes, want)
					}
					for _, one := range clients {
						if n := len(one.received()); n != (1+rounds)*streams {
							t.Fatalf("a client received %d messages", n)
						}
					}
					s.close()
				})
			})
		}
	}
}

// beginApart begins sends, the next when the hub can do no more for the last.
func beginApart(to crowd, s sender, n int) {
	synctest.Wait() // a stream that is busy with results does not wait
	for i := range n {
		s.begin(costSends(to, i, 1)...)
		synctest.Wait()
	}
}

// A send to many that waits for further sends delays the messages of others to the same clients: by
// waitPerWrite for each client, and by maxGather at most, also while sends keep coming. Messages to
// other clients do not wait.
func TestAWaitForSendsDelaysOthersOnlyAMoment(t *testing.T) {
	for _, members := range []int{manyWrites - 1, manyWrites, 1000, 5500} {
		want := min(time.Duration(members)*waitPerWrite, maxGather)
		if members < manyWrites {
			want = 0
		}
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, to := newRoomyFixture(t), groupOf(members)
				clients := to.connect(t, f, nil)
				f.connect(t, &tinyProtocol{}, "stranger")
				crowded, other := f.stream(t.Context(), t), f.stream(t.Context(), t)
				synctest.Wait() // or the results of the batch may come in two responses
				crowded.send(t, batch(1, costSends(to, 0, 8)...))
				crowded.until(t, func() bool { return len(crowded.results) == 8 })
				synctest.Wait() // or the receiver writes, because the handler is still busy

				start := time.Now()
				crowded.send(t, batch(9, costSends(to, 0, 1)...))
				synctest.Wait()
				f.sendWritten(t, "stranger")
				other.send(t, batch(1, untilWritten("stranger")))
				other.until(t, func() bool { return len(other.results) == 1 })
				if took := time.Since(start); took != 0 {
					t.Errorf("messages to a stranger waited for %v", took)
				}
				other.send(t, batch(2, untilWritten("0")))
				time.Sleep(want / 2)
				crowded.send(t, batch(10, costSends(to, 0, 1)...))
				f.sendWritten(t, "1")
				other.until(t, func() bool { return len(other.results) == 2 })
				if took := time.Since(start); took != want {
					t.Errorf("messages to members waited for %v, want %v", took, want)
				}
				crowded.until(t, func() bool { return len(crowded.results) == 10 })
				if took := time.Since(start); took != want {
					t.Errorf("the sends themselves waited for %v, want %v", took, want)
				}
				endStreams(t, crowded, other)
				for i, c := range clients[:3] {
					if n := len(c.received()); n != []int{11, 11, 10}[i] {
						t.Errorf("client %d received %d messages", i, n)
					}
				}
			})
		})
	}
}

// untilWritten returns a send to a user, whose result comes when the message is written.
func untilWritten(user string) *controlv1.SendRequest {
	return waiting(to(users(user), "x"), controlv1.Wait_WAIT_WRITTEN, time.Minute)
}

// sendWritten sends to a user, and returns when the message is written.
func (f *fixture) sendWritten(t *testing.T, user string) {
	t.Helper()
	response, err := f.delivery.Send(t.Context(), untilWritten(user))
	if err != nil || response.GetReceipt().GetWritten() != 1 {
		t.Fatalf("%v, %v", response, err)
	}
}

// Backends that send to many at their own pace hardly wait for each other: a wait that brought
// nothing makes the next ones rare.
func TestVainWaitsGetRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const sends, each = 200, manyWrites * waitPerWrite
		f, to := newRoomyFixture(t), groupOf(manyWrites)
		to.connect(t, f, nil)
		streams := []*backend{f.stream(t.Context(), t), f.stream(t.Context(), t)}
		start := time.Now()
		for i := range sends {
			b := streams[i%2]
			b.send(t, batch(b.accepted+1, costSends(to, i, 1)...))
			b.until(t, func() bool { return len(b.results) == i/2+1 })
		}
		// 1, 2, 4, 8 and then 16 sends do not wait after one that did.
		const most = 5 + sends/(1+expected.MaxPause)
		waits := int(time.Since(start) / each)
		if waits == 0 || waits > most {
			t.Errorf("%d of %d sends waited, want 1 to %d", waits, sends, most)
		}
		endStreams(t, streams...)
	})
}

// A stream to other clients, with a pace of its own, does not slow streams that share writes. They
// go on to share them.
func TestAStreamWithItsOwnPaceSlowsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rounds, pace = 200, 2 * maxGather
		f, crowd := newRoomyFixture(t), groupOf(1000)
		clients := crowd.connect(t, f, nil)
		p := &tinyProtocol{}
		for range manyWrites {
			f.connect(t, p, "", "others")
		}
		slow := f.stream(t.Context(), t)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for sequence := int64(1); ; sequence++ {
				send := to(&controlv1.Target{Groups: []string{"others"}}, "x")
				slow.send(t, batch(sequence, send))
				slow.until(t, func() bool { return len(slow.results) == int(sequence) })
				select {
				case <-stop:
					return
				case <-time.After(pace):
				}
			}
		}()
		s := newStreamSender(t, f, caller{2, 1, 1, 2})
		round := func() {
			beginApart(crowd, s, 2)
			s.await()
		}
		round()
		var waited time.Duration
		written := totalWrites(clients)
		for range rounds {
			start := time.Now()
			round()
			waited += time.Since(start)
			time.Sleep(pace / 10)
		}
		if mean := waited / rounds; mean > maxGather/20 {
			t.Errorf("a round waited for %v", mean)
		}
		shared := rounds * len(clients)
		if n := totalWrites(clients) - written; n > shared+shared/10 {
			t.Errorf("%d writes, want about %d", n, shared)
		}
		close(stop)
		<-stopped
		s.close()
		endStreams(t, slow)
	})
}

// A stream that ends is not waited for.
func TestAStreamThatEndsIsNotExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, to := newRoomyFixture(t), groupOf(manyWrites)
		to.connect(t, f, nil)
		stays, ends := f.stream(t.Context(), t), f.stream(t.Context(), t)
		ends.send(t, batch(1, costSends(to, 0, 1)...))
		ends.until(t, func() bool { return len(ends.results) == 1 })
		start := time.Now()
		stays.send(t, batch(1, costSends(to, 0, 1)...))
		synctest.Wait()
		endStreams(t, ends)
		stays.until(t, func() bool { return len(stays.results) == 1 })
		stays.send(t, batch(2, costSends(to, 0, 1)...))
		stays.until(t, func() bool { return len(stays.results) == 2 })
		if took := time.Since(start); took != 0 {
			t.Errorf("the other stream waited for %v", took)
		}
		endStreams(t, stays)
	})
}

// A stream whose backend sends no more is not waited for, though a result is still to come.
func TestAHalfClosedStreamIsNotExpected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, crowd, gate := newRoomyFixture(t), groupOf(manyWrites), make(chan struct{})
		crowd.connect(t, f, nil)
		f.connect(t, &tinyProtocol{}, "stuck").gate = gate
		stays, ends := f.stream(t.Context(), t), f.stream(t.Context(), t)
		ends.send(t, batch(1, costSends(crowd, 0, 1)...))
		ends.send(t, batch(2, untilWritten("stuck")))
		ends.closeSend(t)
		synctest.Wait()
		start := time.Now()
		stays.send(t, batch(1, costSends(crowd, 0, 1)...))
		stays.until(t, func() bool { return len(stays.results) == 1 })
		if took := time.Since(start); took != 0 {
			t.Errorf("the other stream waited for %v", took)
		}
		close(gate)
		if err := ends.end(t); err != nil {
			t.Error(err)
		}
		endStreams(t, stays)
	})
}
