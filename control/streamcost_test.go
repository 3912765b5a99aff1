package control

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// sender sends one message after the other, and does not wait for receipts until await, which
// returns when all have theirs.
type sender struct {
	begin func(*controlv1.SendRequest)
	await func()
	close func()
}

// newStreamSender sends over a SendStream, a send in each request.
func newStreamSender(t *testing.T, f *fixture) sender {
	b, begun := f.stream(t.Context(), t), int64(0)
	return sender{
		begin: func(send *controlv1.SendRequest) {
			begun++
			b.send(t, batch(begun, send))
		},
		await: func() { b.until(t, func() bool { return len(b.results) == int(begun) }) },
		close: func() {
			b.closeSend(t)
			if err := b.end(t); err != nil {
				t.Error(err)
			}
		},
	}
}

// newCallSender sends by overlapping calls of Send.
func newCallSender(t *testing.T, f *fixture) sender {
	var calls sync.WaitGroup
	return sender{
		begin: func(send *controlv1.SendRequest) {
			calls.Go(func() {
				if _, err := f.delivery.Send(t.Context(), send); err != nil {
					t.Error(err)
				}
			})
		},
		await: calls.Wait,
		close: func() {},
	}
}

// audience is the number of clients that the sends of a cost test reach.
const audience = 8

// countWrites has rounds of sends under way: the first is being written when the rest come. It
// returns how many writes to clients the hub needs for them.
func countWrites(
	t *testing.T, newSender func(*testing.T, *fixture) sender, underWay int,
	targetOf func(send int) *controlv1.Target, matches int,
) (writes int) {
	t.Helper()
	const rounds = 3
	synctest.Test(t, func(t *testing.T) {
		f, gate := newRoomyFixture(t), make(chan struct{})
		var clients []*client
		for i := range audience {
			c := f.connect(t, &wireProtocol{}, fmt.Sprint(i), "lobby")
			c.gate = gate
			clients = append(clients, c)
		}
		s := newSender(t, f)
		for range rounds {
			synctest.Wait() // a stream that is busy with results would share less
			for i := range underWay {
				send := to(targetOf(i), "hello")
				send.Wait = controlv1.Wait_WAIT_WRITTEN
				s.begin(send)
				if i == 0 {
					synctest.Wait()
				}
			}
			openGate(gate, s.await)
		}
		s.close()
		messages := 0
		for _, c := range clients {
			messages += strings.Count(c.received(), "hello|")
			writes += c.written()
		}
		if want := rounds * underWay * matches; messages != want {
			t.Errorf("%d messages were written, want %d", messages, want)
		}
	})
	return writes
}

// This holds a sentence of delivery.proto: with up to 64 sends under way, a SendStream causes no
// more writes to clients than as many overlapping calls of Send.
func TestAStreamWritesNoMoreThanCallsOfSend(t *testing.T) {
	for _, shape := range []struct {
		name     string
		targetOf func(send int) *controlv1.Target
		matches  int // clients that a send reaches
	}{
		{"to a group", func(int) *controlv1.Target {
			return &controlv1.Target{Groups: []string{"lobby"}}
		}, audience},
		{"to many connections", func(send int) *controlv1.Target {
			return users(fmt.Sprint(send % audience))
		}, 1},
	} {
		for _, underWay := range []int{1, 8, 64} {
			t.Run(fmt.Sprintf("%s, %d under way", shape.name, underWay), func(t *testing.T) {
				count := func(newSender func(*testing.T, *fixture) sender) int {
					return countWrites(t, newSender, underWay, shape.targetOf, shape.matches)
				}
				stream, calls := count(newStreamSender), count(newCallSender)
				t.Logf("%d writes of the stream, %d of calls", stream, calls)
				if stream > calls {
					t.Errorf("the stream wrote %d times, calls of Send %d times", stream, calls)
				}
			})
		}
	}
}
