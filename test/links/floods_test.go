package links

import (
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// floodParty has the numbers of clients with each behaviour while messages go to all.
type floodParty map[manners]int

// floods has the clients that flood the hub. Under the race detector handshakes take most of the
// time, above all with TLS.
func (d door) floods() floodParty {
	of := 2
	switch {
	case bed.Long:
		of = 1
	case d.secure:
		of = 5
	}
	return floodParty{
		deaf: 500 / of, absent: 200 / of, halting: 1000 / of,
		longwinded: max(400/of, 2*floodWaits), abrupt: 500 / of,
	}
}

// connections are how many there are in all.
func (p floodParty) connections() int {
	sum := floodAttentive + floodInsistent + (floodTimes-1)*p[abrupt]
	for _, n := range p {
		sum += n
	}
	return sum
}

const (
	floodAttentive = 60
	floodInsistent = 8
	// floodTimes is how often each abrupt client comes.
	floodTimes = 3
	// floodStep is the number of messages to all before the reading clients must have them. An
	// outbox holds more.
	floodStep = 25
	// floodWaits is the number of longwinded clients that fit into the budget of floodFlags: each
	// takes at least 16 KiB.
	floodWaits = (2 << 20) / (16 << 10)
)

// floodFlags: the hub gives up half a message before it pings and gives up its client, and clients
// have time to answer a ping on a busy machine. A message of the largest size needs most of the
// budget, so a delivered one shows that the budget was given back.
var floodFlags = []string{
	"--ping-interval", "1s", "--pong-timeout", "10s", "--message-timeout", "2s", "--close-timeout",
	"3s",
	"--max-message", "1MiB", "--inbound-bytes", "2MiB", "--outbox-messages", "100",
}

// TestFloodsDisturbNobody proves that well-behaved clients get every message, whole, once and in
// order, while thousands of others do not read, vanish, are reset, stop in the middle of a frame,
// or ping without a pause. These cost the hub no more goroutines than it has a budget for, and each
// ends for its own cause.
func TestFloodsDisturbNobody(t *testing.T) {
	t.Parallel()
	eachDoor(t, func(t *testing.T, d door) {
		f := &flood{door: d, party: d.floods(), Process: d.open(t, floodFlags...)}
		f.backend = bed.DialControl(t, f.Control)
		f.listeners = bed.StartPromptHelper(t, guestsRole)

		f.admit(t, f.listeners, floodAttentive/10, attentive)
		f.closeListeners(t, floodAttentive/10)
		before := remainsOf(t, f.Process, anything)
		f.admit(t, f.listeners, floodAttentive, attentive)
		f.admit(t, f.listeners, floodInsistent, insistent)

		began := time.Now()
		f.come(t)
		f.sendUntilOver(t)
		f.checkListeners(t, time.Since(began))
		f.checkGoroutines(t, before.Goroutines)
		f.takeLargest(t)
		f.closeListeners(t, floodAttentive+floodInsistent)
		after := remainsOf(t, f.Process, before.Vitals)
		t.Logf("before %+v, after %+v", before, after)
		after.check(t, before)
		if most := before.heap + mayLeave(f.party.connections()); after.heap > most {
			t.Errorf(
				"%d bytes of heap are left, bound %d", after.heap-before.heap, most-before.heap,
			)
		}
	})
}

// flood is a hub with guests of all manners.
type flood struct {
	*bed.Process

	door      door
	party     floodParty
	backend   *grpc.ClientConn
	listeners *bed.Helper   // the attentive and the insistent
	others    []*bed.Helper // clients that have not entered yet

	networks int // of guests, in use
	sent     int // messages to all
	most     int // the most goroutines of the hub in all readings
}

// admit brings guests in.
func (f *flood) admit(t *testing.T, h *bed.Helper, count int, m manners) {
	t.Helper()
	f.invite(t, h, count, m)
	newsOf(t, h)
}

// invite is admit without its wait. All but the absent get the messages to all.
func (f *flood) invite(t *testing.T, h *bed.Helper, count int, m manners) {
	t.Helper()
	group := "all"
	if m == absent {
		group = "absent"
	}
	f.networks++
	h.Tell(t, guestOrder{Come: &party{
		Clients: count, Manners: m, Address: f.Clients, Path: "/ws?group=" + group,
		Secure:  f.door.secure,
		Network: f.networks, Times: floodTimes,
	}})
}

// closeListeners closes all clients that are left: so many listeners.
func (f *flood) closeListeners(t *testing.T, count int) {
	t.Helper()
	massClose(t, f.Process, f.backend, []*bed.Helper{f.listeners}, count)
}

// come starts the floods. The absent have entered, and their process is stopped: their kernel still
// accepts bytes, and no client answers. (On loopback no packet is lost. A dead machine, whose
// kernel does not answer either, cannot be had here.)
func (f *flood) come(t *testing.T) {
	t.Helper()
	gone := bed.StartPromptHelper(t, guestsRole)
	f.admit(t, gone, f.party[absent], absent)
	gone.Signal(t, syscall.SIGSTOP)
	for _, m := range []manners{deaf, halting, longwinded, abrupt} {
		h := bed.StartPromptHelper(t, guestsRole)
		f.invite(t, h, f.party[m], m)
		f.others = append(f.others, h)
	}
}

// sendUntilOver sends message after message to all, until all clients that flooded the hub are
// gone.
func (f *flood) sendUntilOver(t *testing.T) {
	t.Helper()
	delivery := controlv1.NewDeliveryServiceClient(f.backend)
	patience := testkit.NewPatience()
	defer patience.Stop()
	for !f.over(t) {
		<-patience.Turn()
		if patience.IsOver() {
			t.Fatalf("not all are gone: %v", f.causes(t))
		}
		for range floodStep {
			_, err := delivery.Send(t.Context(), &controlv1.SendRequest{
				Target:  &controlv1.Target{Groups: []string{"all"}},
				Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: bodyOf(f.sent)}},
			})
			if err != nil {
				t.Fatal(err)
			}
			f.sent++
		}
		f.listeners.Tell(t, guestOrder{Heard: f.sent})
		newsOf(t, f.listeners)
	}
}

// over reports whether all clients have come and ended as they had to. A client in the middle of a
// message answers no ping either. Which of its two limits is over first depends on the time at
// which the machine let it begin.
func (f *flood) over(t *testing.T) bool {
	t.Helper()
	f.most = max(f.most, f.Vitals(t).Goroutines)
	for len(f.others) > 0 {
		select {
		case line, ok := <-f.others[0].Answers:
			var news guestNews
			f.others[0].Understand(t, line, ok, &news)
			f.others = f.others[1:]
		default:
			return false
		}
	}
	causes, p := f.causes(t), f.party
	silent := causes["ping_timeout"] - p[absent] // beyond the clients that have no other way to end
	return causes["lost"] == p[abrupt]*floodTimes && causes["slow"] == p[deaf] && silent >= 0 &&
		causes["slow_message"]+causes["memory"]+silent == p[halting]+p[longwinded]
}

// causes are how many connections have ended for which cause.
func (f *flood) causes(t *testing.T) map[string]int {
	t.Helper()
	metrics := f.Get(t, "/metrics")
	causes := map[string]int{}
	for _, cause := range []string{"lost", "slow_message", "memory", "slow", "ping_timeout"} {
		causes[cause] = int(
			bed.SumSamples(t, metrics, "connhub_connections_closed_total", `cause="`+cause+`"`),
		)
	}
	return causes
}

// checkListeners checks that the well-behaved clients have all messages and are still connected,
// and that the insistent clients have their answers.
func (f *flood) checkListeners(t *testing.T, took time.Duration) {
	t.Helper()
	f.listeners.Tell(t, guestOrder{Heard: f.sent})
	news := newsOf(t, f.listeners)
	t.Logf("%d messages to each in %v, %v, %d pings, %d pongs",
		f.sent, took, f.causes(t), news.Pings, news.Pongs)
	if news.Guests != floodAttentive+floodInsistent ||
		news.Least != f.sent || news.Most != f.sent || len(news.Ends)+len(news.Wrong) > 0 {
		t.Errorf("of %d messages who reads has %+v", f.sent, news)
	}
	if causes := f.causes(t); causes["memory"] == 0 || causes["slow_message"] == 0 {
		t.Errorf("%v: half messages never used up their budget or their time: the test proves "+
			"less than it should", causes)
	}
	if news.Pings < f.sent || news.Pongs < f.sent {
		t.Errorf(
			"%d pings and %d pongs between %d messages: no flood", news.Pings, news.Pongs, f.sent,
		)
	}
}

// checkGoroutines checks that the floods cost no more goroutines than the hub has set apart for
// them. These are the goroutines that wait for large messages, by the budget; two for each
// handshake in progress, of which one hands it over; and a reader and a writer for each client with
// something to send or to get at that moment.
func (f *flood) checkGoroutines(t *testing.T, before int) {
	t.Helper()
	const handshakes, busy = 2 * bed.HandshakesAtOnce * 4, 2 * (floodAttentive + floodInsistent)
	bound := before + floodWaits + handshakes + busy
	if f.door.each { // a goroutine for each link, and a writer for each link that does not read
		bound += f.party.connections() + f.party[deaf]
	}
	t.Logf("at most %d goroutines, bound %d", f.most, bound)
	if f.most > bound {
		t.Errorf("%d goroutines, bound %d", f.most, bound)
	}
}

// takeLargest holds that the budget was given back.
func (f *flood) takeLargest(t *testing.T) {
	t.Helper()
	p := party{Address: f.Clients, Path: "/ws", Secure: f.door.secure}
	c, err := p.dial(0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Conn.Close()
	taken := f.Sum(t, "connhub_client_messages_total")
	if _, err := c.Conn.Write(append([]byte{
		bed.FinBit | bed.OpBinary, bed.MaskBit | 127, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0,
	}, make([]byte, 1<<20)...)); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the largest message is taken", func() bool {
		return f.Sum(t, "connhub_client_messages_total") == taken+1
	})
	_ = c.Conn.Close()
	testkit.Eventually(t, "who sent it is gone", func() bool {
		return f.Sum(t, "connhub_links") == floodAttentive+floodInsistent
	})
}
