package cluster

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

const (
	// drainLimit is for a hub with a short drain to end.
	drainLimit = 20 * time.Second
	// deployConnectRate is the connect rate of the hubs. Their clients come as soon as a hub has
	// moved their connections, so it is that of all clients of two hubs within a second: each hub
	// restarts a second after the one before.
	deployConnectRate = 500
	// deployPace is the rate of sends per second of all backends together while restarts count.
	deployPace = 200
)

// restarts makes TestDrains longer: `make deploys`.
var restarts = flag.Int("restarts", 0,
	"rolling restarts of all hubs in TestDrains, under an even load; 0: few, under a full load")

// TestDrains: hubs restart in turn. Reliable clients go on at the others, and miss nothing. Neither
// do those to whom they publish.
func TestDrains(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3, flags: []string{
		"--drain-delay=300ms", "--drain-period=10s", "--resume-window=10m",
		fmt.Sprint("--connect-rate=", deployConnectRate),
	}})
	rounds, pace := bed.Either(1, 5), 0
	if *restarts > 0 {
		rounds, pace = *restarts, deployPace
	}
	j := c.openJourney(t, bed.Either(200, 500), pace)
	for round := range rounds {
		for i := range c.nodes {
			j.backends[i].end()
			if i == round%len(c.nodes) {
				c.drain(t, i)
			}
			j.restart(t, i)
		}
	}
	j.finish(t)
	c.checkInvariants(t)
}

// journey is a crowd of reliable clients that hubs move, with the backends that send to them. Each
// hub has a backend of its own.
type journey struct {
	cluster    *cluster
	travellers []*traveller
	backends   []*sender       // by hub
	pace       int             // sends per second of all backends together; 0: as many as go
	journeying context.Context // of travellers and watchers
	stop       context.CancelFunc
	running    sync.WaitGroup // travellers and watchers
	began      time.Time      // messages carry the time since then
	// held and refused are the handshakes above the connect rate of the hubs that have ended.
	held, refused int
	// uncounted are the receipts without the part of a hub that was coming or going.
	uncounted atomic.Int64

	mu     sync.Mutex
	visits visits
	doors  []string         // addresses of the hubs for clients
	steady []string         // hubs that are ready and not asked to stop
	sent   map[string][]int // by sender: the target of each message
	ended  []string         // events that say that a connection has ended
}

// everybody is the target of messages for all travellers.
const everybody = -1

func (c *cluster) openJourney(t *testing.T, count, pace int) *journey {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	j := &journey{
		cluster: c, backends: make([]*sender, len(c.nodes)), journeying: ctx, stop: stop,
		pace: pace, began: time.Now(), visits: visits{}, sent: map[string][]int{},
	}
	t.Cleanup(func() { j.stop(); j.running.Wait() })
	for _, n := range c.nodes {
		j.doors, j.steady = append(j.doors, n.Clients), append(j.steady, n.Hub)
	}
	for i := range count {
		m := &tally.Member{
			Namespace: "default", User: fmt.Sprint("traveller-", i),
			Groups: []string{"travellers", groupOf((i + count - 1) % count)},
		}
		path, err := c.nodes[0].invite(t.Context(), m, "webpubsub.sendToGroup."+groupOf(i))
		bed.Report(t, err)
		v := &traveller{
			journey: j, number: i, user: m.User, path: path, begun: make(chan struct{}),
			got: map[string][]int{}, random: rand.New(rand.NewPCG(1, uint64(i))),
		}
		j.travellers = append(j.travellers, v)
		j.running.Go(func() { v.travel(ctx, t) })
	}
	for _, v := range j.travellers {
		<-v.begun
	}
	for i, n := range c.nodes {
		j.watch(t, n)
		j.backends[i] = j.startSender(t, n)
	}
	return j
}

// watch notes the events of a hub that say that a connection has ended, until the hub or the
// journey ends.
func (j *journey) watch(t *testing.T, n *node) {
	t.Helper()
	stream, err := eventsv1.NewEventServiceClient(n.backend).Subscribe(j.journeying)
	bed.Report(t, err)
	bed.Report(t, stream.Send(&eventsv1.SubscribeRequest{Subscription: &eventsv1.Subscription{
		Kinds: []eventsv1.EventKind{eventsv1.EventKind_EVENT_KIND_DISCONNECTED},
	}}))
	j.running.Go(func() {
		for {
			response, err := stream.Recv()
			if err != nil {
				return
			}
			j.mu.Lock()
			for _, e := range response.GetEvents() {
				if e.GetDisconnected() != nil && j.journeying.Err() == nil {
					j.ended = append(j.ended, fmt.Sprint(n.Hub, ": ", e))
				}
			}
			j.mu.Unlock()
		}
	})
}

// drain drains a hub by a call of its neighbour.
func (c *cluster) drain(t *testing.T, i int) {
	t.Helper()
	n, other := c.nodes[i], c.nodes[(i+1)%len(c.nodes)]
	stream, err := controlv1.NewHubServiceClient(other.backend).DrainHub(t.Context(),
		&controlv1.DrainHubRequest{HubId: n.Hub})
	bed.Report(t, err)
	var last *controlv1.DrainHubResponse
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = r
	}
	if last.GetPhase() != controlv1.DrainPhase_DRAIN_PHASE_DRAINED || last.GetMoved() == 0 ||
		last.GetClosed() != 0 || last.GetConnections() != 0 ||
		n.Sum(t, "connhub_drain_moved_total") != int(last.GetMoved()) {
		t.Errorf("the last report of the drain: %v", last)
	}
	t.Logf("hub %s: %d moves failed and were tried again", n.Hub,
		n.Sum(t, "connhub_moves_total", `outcome="failed"`))
	n.Get(t, "/debug/invariants")
}

// restart stops a hub in order, and starts the next one at its place. Its backend must have ended.
func (j *journey) restart(t *testing.T, i int) {
	t.Helper()
	n := j.cluster.nodes[i]
	j.held += n.Sum(t, "connhub_handshake_hold_seconds_count")
	j.refused += n.Sum(t, "connhub_handshakes_total", `result="connect_rate"`)
	j.mu.Lock()
	j.steady = slices.DeleteFunc(j.steady, func(id string) bool { return id == n.Hub })
	j.mu.Unlock()
	n.Terminate()
	if code := n.ExitCode(t, drainLimit); code != 0 {
		t.Fatalf("exit %d:\n%s", code, n.Log)
	}
	line := testkit.WaitForLog(t, n.Log, "drained")
	t.Logf("hub %s: %v", n.Hub, line)
	if line["moved"] == 0.0 || line["closed"] != 0.0 || line["left_open"] != 0.0 {
		t.Errorf("the drain of hub %s: %v, want that it moves some and closes none", n.Hub, line)
	}
	j.cluster.launch(t, n)
	j.cluster.awaitReady(t, n)
	j.mu.Lock()
	j.doors[i], j.steady = n.Clients, append(j.steady, n.Hub)
	j.mu.Unlock()
	j.watch(t, n)
	j.backends[i] = j.startSender(t, n)
}

// finish ends the backends, waits until all messages have come, and proves that they are right.
func (j *journey) finish(t *testing.T) {
	t.Helper()
	for _, s := range j.backends {
		s.end()
	}
	for i, v := range j.travellers {
		want, publisher := j.expect(v), j.travellers[(i+len(j.travellers)-1)%len(j.travellers)]
		testkit.Eventually(t, v.user+" has all messages", func() bool {
			published, isDone := publisher.countPublished()
			return v.failed() || isDone && v.count() >= len(want)+published
		})
	}
	j.mu.Lock()
	for _, e := range j.ended {
		t.Errorf("event: %s", e)
	}
	j.mu.Unlock()
	j.stop()
	j.running.Wait()
	var f faults
	for i, v := range j.travellers {
		for name, targets := range j.sent {
			var want []int
			for number, target := range targets {
				if target == everybody || target == i {
					want = append(want, number)
				}
			}
			f.compare(t, v, name, want)
		}
		publisher := j.travellers[(i+len(j.travellers)-1)%len(j.travellers)]
		published := make([]int, publisher.published)
		for number := range published {
			published[number] = number
		}
		f.compare(t, v, publisher.name(), published)
	}
	j.report(t, &f)
}

// sender is a backend that sends numbered messages through a hub.
type sender struct {
	stop context.CancelFunc
	over chan struct{}
}

func (s *sender) end() {
	s.stop()
	<-s.over
}

func (j *journey) startSender(t *testing.T, n *node) *sender {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := &sender{cancel, make(chan struct{})}
	t.Cleanup(s.end)
	go func() {
		defer close(s.over)
		j.send(ctx, t, n)
	}()
	return s
}

// send sends messages until ctx is done: to a traveller by its user or its connection in turn, and
// now and then to all by their group.
func (j *journey) send(ctx context.Context, t *testing.T, n *node) {
	delivery, name := controlv1.NewDeliveryServiceClient(n.backend), n.Hub
	random := rand.New(rand.NewPCG(2, uint64(n.number)))
	awaitTurn, stop := j.newPacer(ctx)
	defer stop()
	for number := 0; awaitTurn(); number++ {
		to, matched := random.IntN(len(j.travellers)), int32(1)
		v := j.travellers[to]
		target := &controlv1.Target{Users: []string{v.user}}
		switch {
		case number%10 == 0:
			to, matched = everybody, int32(len(j.travellers)) //nolint:gosec // a test has few
			target = &controlv1.Target{Groups: []string{"travellers"}}
		case number%2 == 0:
			target = &controlv1.Target{Connections: []string{v.id}}
		}
		reachable := j.steadyHubs()
		response, err := delivery.Send(t.Context(), &controlv1.SendRequest{
			Target: target,
			Message: &controlv1.Message{
				Payload: &controlv1.Message_Text{Text: j.stamp(name, number)},
			},
		})
		if err != nil {
			t.Errorf("%s: %d: %v", name, number, err)
			return
		}
		j.mu.Lock()
		j.sent[name] = append(j.sent[name], to)
		j.mu.Unlock()
		// A hub that comes or goes may be unreachable: the receipt does not count its part.
		receipt, still := response.GetReceipt(), j.steadyHubs()
		unknown := receipt.GetUnreachableHubs()
		for _, id := range unknown {
			if slices.Contains(reachable, id) && slices.Contains(still, id) {
				t.Errorf("%s: %d to %v: receipt %v", name, number, target, receipt)
			}
		}
		switch counted := receipt.GetMatched(); {
		case counted < matched && len(unknown) > 0:
			j.uncounted.Add(1)
		case counted != matched:
			t.Errorf("%s: %d to %v: receipt %v, want %d", name, number, target, receipt, matched)
		}
	}
}

// newPacer returns a function that waits for the turn of a backend's next send. It reports false
// when ctx is done. The caller must call stop.
func (j *journey) newPacer(ctx context.Context) (awaitTurn func() bool, stop func()) {
	if j.pace == 0 {
		return func() bool { return ctx.Err() == nil }, func() {}
	}
	// A hub restarts at almost any time, and its backend sends nothing.
	sending := time.Duration(len(j.backends) - 1)
	ticker := time.NewTicker(sending * time.Second / time.Duration(j.pace))
	return func() bool {
		select {
		case <-ticker.C:
			return true
		case <-ctx.Done():
			return false
		}
	}, ticker.Stop
}

// stamp returns the text of a message, with the time.
func (j *journey) stamp(name string, number int) string {
	return fmt.Sprint(name, ":", number, ":", time.Since(j.began).Microseconds())
}

func (j *journey) steadyHubs() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.steady)
}

// expect returns the targets of the messages for a traveller.
func (j *journey) expect(v *traveller) (all []int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, targets := range j.sent {
		for _, target := range targets {
			if target == everybody || j.travellers[target] == v {
				all = append(all, target)
			}
		}
	}
	return all
}
