package control

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// caller calls in a way that `connhub bench` has: its flags --streams, --backend-connections,
// --batch and --in-flight.
type caller struct {
	streams, connections, batch, underWay int
}

func (c caller) String() string {
	return fmt.Sprintf("%d under way, %d streams, %d connections, batch %d",
		c.underWay, c.streams, c.connections, c.batch)
}

// clients returns a client of the API for each connection of the backend.
func (c caller) clients(t *testing.T, f *fixture) (all []controlv1.DeliveryServiceClient) {
	for range c.connections {
		conn := f.dial(t, "Bearer "+backendSecret)
		all = append(all, controlv1.NewDeliveryServiceClient(conn))
	}
	return all
}

// sender sends a batch of messages after the other, and does not wait for receipts until await,
// which returns when all have theirs.
type sender struct {
	begin func(sends ...*controlv1.SendRequest)
	await func()
	close func()
}

// newStreamSender sends over SendStreams in turn, a batch in each request.
func newStreamSender(t *testing.T, f *fixture, c caller) sender {
	clients := c.clients(t, f)
	streams, begun, next := make([]*backend, c.streams), make([]int, c.streams), 0
	for i := range streams {
		streams[i] = streamOf(t.Context(), t, clients[i%len(clients)])
	}
	return sender{
		begin: func(sends ...*controlv1.SendRequest) {
			i := next % len(streams)
			next++
			streams[i].send(t, batch(int64(begun[i]+1), sends...))
			begun[i] += len(sends)
		},
		await: func() {
			for i, b := range streams {
				b.until(t, func() bool { return len(b.results) == begun[i] })
			}
		},
		close: func() { endStreams(t, streams...) },
	}
}

// endStreams ends streams properly.
func endStreams(t *testing.T, all ...*backend) {
	t.Helper()
	for _, b := range all {
		b.closeSend(t)
		if err := b.end(t); err != nil {
			t.Error(err)
		}
	}
}

// newCallSender sends by overlapping calls of Send, over the connections in turn.
func newCallSender(t *testing.T, f *fixture, c caller) sender {
	var calls sync.WaitGroup
	clients, next := c.clients(t, f), 0
	return sender{
		begin: func(sends ...*controlv1.SendRequest) {
			for _, send := range sends {
				client := clients[next%len(clients)]
				next++
				calls.Go(func() {
					if _, err := client.Send(t.Context(), send); err != nil {
						t.Error(err)
					}
				})
			}
		},
		await: calls.Wait,
		close: func() {},
	}
}

// crowd is clients, and the sends that reach them.
type crowd struct {
	name     string
	clients  int
	targetOf func(send int) *controlv1.Target
	matches  int // clients that a send reaches
}

// groupOf is a crowd whose sends reach all.
func groupOf(clients int) crowd {
	return crowd{fmt.Sprintf("to a group of %d", clients), clients, func(int) *controlv1.Target {
		return &controlv1.Target{Groups: []string{"lobby"}}
	}, clients}
}

// connect connects the clients of a crowd. A token of gate lets a write go; nil: writes take no
// time.
func (w crowd) connect(t *testing.T, f *fixture, gate <-chan struct{}) (all []*client) {
	t.Helper()
	p := &tinyProtocol{}
	for i := range w.clients {
		c := f.connect(t, p, fmt.Sprint(i), "lobby")
		c.gate = gate
		all = append(all, c)
	}
	return all
}

// countWrites has rounds of sends under way: the first request is being written when the rest come.
// It returns how many writes to clients the hub needs for them.
func countWrites(
	t *testing.T, newSender func(*testing.T, *fixture, caller) sender, c caller, to crowd,
) (writes int) {
	t.Helper()
	const rounds = 3
	synctest.Test(t, func(t *testing.T) {
		f, gate := newRoomyFixture(t), make(chan struct{})
		clients := to.connect(t, f, gate)
		s := newSender(t, f, c)
		for range rounds {
			synctest.Wait() // a stream that is busy with results would share less
			for i := 0; i < c.underWay; i += c.batch {
				s.begin(costSends(to, i, c.batch)...)
				if i == 0 {
					synctest.Wait()
				}
			}
			openGate(gate, s.await)
		}
		s.close()
		messages := 0
		for _, one := range clients {
			messages += len(one.received())
		}
		writes = totalWrites(clients)
		if want := rounds * c.underWay * to.matches; messages != want {
			t.Errorf("%d messages were written, want %d", messages, want)
		}
	})
	return writes
}

func totalWrites(of []*client) (all int) {
	for _, one := range of {
		all += one.written()
	}
	return all
}

// costSends returns sends of one byte, from a number on.
func costSends(to crowd, from, n int) (sends []*controlv1.SendRequest) {
	for i := range n {
		sends = append(sends, &controlv1.SendRequest{
			Target: to.targetOf(from + i), Message: text("x"), Wait: controlv1.Wait_WAIT_WRITTEN,
		})
	}
	return sends
}

// costCallers are the shapes of `connhub bench` in which the test of the costs calls.
var costCallers = []caller{
	{1, 1, 1, 1},
	{1, 1, 1, 8},
	{1, 1, 1, 64},
	{8, 1, 1, 8},
	{8, 8, 1, 8},
	{8, 1, 1, 64},
	{8, 8, 1, 64},
	{1, 1, 16, 64},
	{4, 1, 16, 64},
	{4, 4, 16, 64},
	{1, 1, 1, 640},
	{1, 1, 10, 640},
	{8, 8, 1, 640},
}

// This holds a sentence of delivery.proto: with as many sends under way as a burst takes,
// SendStreams cause no more writes to clients than as many overlapping calls of Send.
func TestAStreamWritesNoMoreThanCallsOfSend(t *testing.T) {
	const few = 8
	for _, to := range []crowd{
		groupOf(few),
		groupOf(manyWrites + 1), // a stream may wait for more sends
		{"to many connections", few, func(send int) *controlv1.Target {
			return users(fmt.Sprint((send + send/few) % few)) // a stream sends to all
		}, 1},
	} {
		for _, c := range costCallers {
			t.Run(fmt.Sprintf("%s, %s", to.name, c), func(t *testing.T) {
				stream := countWrites(t, newStreamSender, c, to)
				calls := countWrites(t, newCallSender, c, to)
				t.Logf("%d writes of the stream, %d of calls", stream, calls)
				if stream > calls {
					t.Errorf("the stream wrote %d times, calls of Send %d times", stream, calls)
				}
			})
		}
	}
}
