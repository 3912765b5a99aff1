package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

const (
	// comeBackAfter is the pause of a client that no hub has taken.
	comeBackAfter = 20 * time.Millisecond
	// ackEvery is how many messages a client confirms at once.
	ackEvery = 10
	// drainLimit is for a hub with a short drain to end.
	drainLimit = 20 * time.Second
)

// TestDrains: hubs restart in turn. Reliable clients go on at the others, and miss nothing.
func TestDrains(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3, flags: []string{
		"--drain-delay=300ms", "--drain-period=10s", "--resume-window=10m",
	}})
	j := c.openJourney(t, bed.Either(200, 500))
	for round := range bed.Either(1, 5) {
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
	journeying context.Context // of travellers and watchers
	stop       context.CancelFunc
	running    sync.WaitGroup // travellers and watchers

	mu     sync.Mutex
	doors  []string         // addresses of the hubs for clients
	steady []string         // hubs that are ready and not asked to stop
	sent   map[string][]int // by sender: the target of each message
	ended  []string         // events that say that a connection has ended
}

// everybody is the target of messages for all travellers.
const everybody = -1

func (c *cluster) openJourney(t *testing.T, count int) *journey {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	j := &journey{
		cluster: c, backends: make([]*sender, len(c.nodes)), journeying: ctx, stop: stop,
		sent: map[string][]int{},
	}
	t.Cleanup(func() { j.stop(); j.running.Wait() })
	for _, n := range c.nodes {
		j.doors, j.steady = append(j.doors, n.Clients), append(j.steady, n.Hub)
	}
	for i := range count {
		m := &tally.Member{
			Namespace: "default", User: fmt.Sprint("traveller-", i), Groups: []string{"travellers"},
		}
		path, err := c.nodes[0].invite(t.Context(), m)
		bed.Report(t, err)
		v := &traveller{
			journey: j, user: m.User, path: path, begun: make(chan struct{}),
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
	n.Get(t, "/debug/invariants")
}

// restart stops a hub in order, and starts the next one at its place. Its backend must have ended.
func (j *journey) restart(t *testing.T, i int) {
	t.Helper()
	n := j.cluster.nodes[i]
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
	for _, v := range j.travellers {
		want := j.expect(v)
		testkit.Eventually(t, v.user+" has all messages", func() bool {
			return v.failed() || v.count() >= len(want)
		})
	}
	j.mu.Lock()
	for _, e := range j.ended {
		t.Errorf("event: %s", e)
	}
	j.mu.Unlock()
	j.stop()
	j.running.Wait()
	moves := 0
	for i, v := range j.travellers {
		moves += v.resumed
		for name, targets := range j.sent {
			var want []int
			for number, target := range targets {
				if target == everybody || target == i {
					want = append(want, number)
				}
			}
			if !slices.Equal(v.got[name], want) {
				t.Errorf("%s has %d messages of %s, want %d:\n%v\n%v", v.user, len(v.got[name]),
					name, len(want), v.got[name], want)
			}
		}
	}
	t.Logf("%d travellers have come back %d times", len(j.travellers), moves)
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
	for number := 0; ctx.Err() == nil; number++ {
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
				Payload: &controlv1.Message_Text{Text: fmt.Sprint(name, ":", number)},
			},
		})
		if err != nil {
			t.Errorf("%s: %d: %v", name, number, err)
			return
		}
		j.mu.Lock()
		j.sent[name] = append(j.sent[name], to)
		j.mu.Unlock()
		receipt := response.GetReceipt()
		if receipt.GetMatched() != matched {
			t.Errorf("%s: %d to %v: receipt %v, want %d", name, number, target, receipt, matched)
		}
		// A hub that comes or goes may be unreachable.
		still := j.steadyHubs()
		for _, id := range receipt.GetUnreachableHubs() {
			if slices.Contains(reachable, id) && slices.Contains(still, id) {
				t.Errorf("%s: %d to %v: receipt %v", name, number, target, receipt)
			}
		}
	}
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

// traveller is a reliable client. When its link ends, it comes back at a random hub.
type traveller struct {
	journey *journey
	user    string
	path    string
	random  *rand.Rand
	begun   chan struct{} // closed when it has a connection, or never gets one
	id      string        // of the connection, from begun on

	token    string
	sequence int64
	resumed  int // times that it came back

	mu    sync.Mutex
	got   map[string][]int // numbers of the messages of each sender
	total int
	lost  bool // it has given up
}

func (v *traveller) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.total
}

func (v *traveller) failed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lost
}

// travel connects again and again until ctx is done, or the connection is lost.
func (v *traveller) travel(ctx context.Context, t *testing.T) {
	begin := sync.OnceFunc(func() { close(v.begun) })
	defer begin()
	for ctx.Err() == nil {
		err := v.useLink(ctx, begin)
		var closed bed.ClosedError
		refused := errors.As(err, &closed) && closed.Code == 1008
		if refused || errors.Is(err, errWrong) {
			t.Errorf("%s, message %d of connection %s: %v", v.user, v.sequence, v.id, err)
			v.mu.Lock()
			v.lost = true
			v.mu.Unlock()
			return
		}
		select {
		case <-time.After(comeBackAfter):
		case <-ctx.Done():
		}
	}
}

// errWrong: a message is not the one that must come.
var errWrong = errors.New("wrong message")

// useLink connects to a random hub, and reads until the link ends.
func (v *traveller) useLink(ctx context.Context, begin func()) error {
	v.journey.mu.Lock()
	address := v.journey.doors[v.random.IntN(len(v.journey.doors))]
	v.journey.mu.Unlock()
	path := v.path
	if v.id != "" {
		path += "&" + bed.ResumeQuery(v.id, v.token)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() {
		_, _ = conn.Write(bed.MaskedFrame(bed.OpClose, []byte{0x03, 0xe8})) // 1000: for good
		_ = conn.Close()
	})()
	link, err := bed.NewClient(conn, address, path, bed.Reliable)
	if err != nil {
		return err
	}
	var buffer []byte
	for {
		opcode, payload, err := link.ReadFrame(buffer)
		buffer = payload
		switch {
		case err != nil:
			return err
		case opcode == bed.OpClose:
			return bed.ParseClose(payload)
		case opcode == bed.OpText:
			if err := v.take(payload, begin); err != nil {
				return err
			}
		}
		if opcode == bed.OpText && v.sequence%ackEvery == 0 {
			ack := fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, v.sequence)
			if _, err := conn.Write(bed.MaskedFrame(bed.OpText, []byte(ack))); err != nil {
				return err
			}
		}
	}
}

// take takes a message of a link.
func (v *traveller) take(payload []byte, begin func()) error {
	var m struct {
		Event, ConnectionID, ReconnectionToken, Data string
		SequenceID                                   int64
	}
	if err := json.Unmarshal(payload, &m); err != nil {
		return fmt.Errorf("%w: %q: %w", errWrong, payload, err)
	}
	if m.Event == "connected" {
		v.token = m.ReconnectionToken
		if v.id != "" && m.ConnectionID != v.id {
			return fmt.Errorf("%w: it became connection %s", errWrong, m.ConnectionID)
		}
		if v.id != "" {
			v.resumed++
			return nil
		}
		v.id = m.ConnectionID
		begin()
		return nil
	}
	if m.SequenceID <= v.sequence { // sent again, because the ack did not come
		return nil
	}
	if m.SequenceID != v.sequence+1 {
		return fmt.Errorf("%w: %s", errWrong, payload)
	}
	v.sequence = m.SequenceID
	name, text, _ := strings.Cut(m.Data, ":")
	var number int
	if _, err := fmt.Sscan(text, &number); err != nil {
		return fmt.Errorf("%w: %s", errWrong, payload)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.got[name] = append(v.got[name], number)
	v.total++
	return nil
}
