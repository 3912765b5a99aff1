package test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

const (
	// mebibyte is the largest payload.
	mebibyte = 1 << 20
	// pileMessages of pileBytes are more than a hub keeps for a peer that does not take them.
	pileMessages = 600
	pileBytes    = 64 << 10
	// probeAttempts is how often the same work is done until no probe is late. Hubs and clients share this machine's
	// cores, so the long form starves hubs now and then.
	probeAttempts = 10
)

// deliverLarge proves that what hubs need to know of each other is never behind what they carry: while
// megabytes go to hundreds of clients, and small messages to thousands, probes come back in 100 ms and filter leases
// are held.
func (c *cluster) deliverLarge(t *testing.T) {
	t.Helper()
	few := c.gather(t, either(30, 100), "few")
	many := c.gather(t, either(1000, 6667), "many")
	c.awaitCalm(t)
	broadcasts, fanouts := either(5, 20), 10
	c.watchProbes(t, fmt.Sprintf("%d broadcasts of 1 MiB", broadcasts), func() { c.broadcast(t, few, broadcasts, mebibyte) })
	c.watchProbes(t, fmt.Sprintf("%d messages to everyone", fanouts), func() { c.broadcast(t, many, fanouts, 100) })
	c.checkInvariants(t)
}

// broadcast sends to a whole audience through the hubs in turn, and waits until each client has everything.
func (c *cluster) broadcast(t *testing.T, to *audience, count, size int) {
	t.Helper()
	text := strings.Repeat("x", size)
	began := time.Now()
	clients := 0
	for i := range count {
		response, err := controlv1.NewDeliveryServiceClient(c.nodes[i%len(c.nodes)].backend).Send(t.Context(), &controlv1.SendRequest{
			Namespace: to.namespace, Target: &controlv1.Target{Everyone: true}, Wait: controlv1.Wait_WAIT_WRITTEN, WaitTimeout: durationpb.New(patience),
			Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: text}},
		})
		if err != nil {
			t.Fatal(err)
		}
		receipt := response.GetReceipt()
		if receipt.GetWritten() != receipt.GetMatched() || len(receipt.GetUnreachableHubs()) > 0 {
			t.Errorf("receipt %v, want everything written", receipt)
		}
		clients = int(receipt.GetMatched())
	}
	to.sent += count
	if got := to.await(t); got != clients {
		t.Errorf("receipts say %d clients, there are %d", clients, got)
	}
	t.Logf("%d × %d bytes to %d clients in %v", count, size, clients, time.Since(began))
}

// watchProbes does some work, and holds that every probe is back in 100 ms meanwhile and no filter lease ends. A busy machine
// delays one now and then; what hubs do delays some each time.
func (c *cluster) watchProbes(t *testing.T, what string, work func()) {
	t.Helper()
	for range probeAttempts {
		allBefore, slowBefore, floodBefore := c.probes(t)
		began := time.Now()
		work()
		took := time.Since(began)
		all, slow, flood := c.probes(t)
		all, slow, flood = all-allBefore, slow-slowBefore, flood-floodBefore
		t.Logf("%s: %v of %v probes in %v took more than 100 ms; %v sends without a filter lease", what, slow, all, took, flood)
		if slow == 0 && flood == 0 {
			return
		}
	}
	t.Errorf("%s: probes take more than 100 ms each time", what)
}

// probes counts the probes so far, those that took more than 100 ms, and the sends that were passed on without a filter lease.
func (c *cluster) probes(t *testing.T) (all, slow, flood float64) {
	t.Helper()
	const name = "connhub_mesh_probe_seconds"
	for _, n := range c.nodes {
		metrics := n.get(t, "/metrics")
		count := sample(t, metrics, name+"_count")
		all += count
		slow += count - sample(t, metrics, name+"_bucket", `le="0.1"`)
		flood += sample(t, metrics, "connhub_mesh_forwards_total", `why="flood"`)
	}
	return all, slow, flood
}

// hangOne proves that a hub which hangs costs the others nothing: what goes to the clients of others is
// as quick as before, though everything for the one that hangs piles up.
func (c *cluster) hangOne(t *testing.T) {
	t.Helper()
	crowd := c.newCrowd(t)
	for i := range 60 {
		crowd.add("default", fmt.Sprint("user-", i), "")
	}
	c.enter(t, crowd, crowd.members, c.spread)
	crowd.identify(t, c.nodes[0].backend, crowd.members)
	crowd.read(crowd.members)
	c.awaitCalm(t)

	count := either(600, 10_000)
	before := c.timeSends(t, crowd, count, func() bool { return true })
	stuck := c.nodes[2]
	stuck.signal(t, syscall.SIGSTOP)
	limit := time.AfterFunc(freezeLimit, func() { _ = stuck.command.Process.Signal(syscall.SIGCONT) })
	defer limit.Stop()
	over := make(chan struct{})
	var piling sync.WaitGroup
	var piled atomic.Int64
	piling.Go(func() { report(t, c.pile(t, over, &piled)) })
	while := c.timeSends(t, crowd, count, func() bool { return piled.Load() >= pileMessages })
	close(over)
	piling.Wait()
	stuck.signal(t, syscall.SIGCONT)

	t.Logf("p99 before %v, while a hub hangs %v: %.1f times; at most %v and %v; %d messages of %d bytes to the hub that hangs",
		percentile(before, 99), percentile(while, 99), float64(percentile(while, 99))/float64(percentile(before, 99)),
		percentile(before, 100), percentile(while, 100), piled.Load(), pileBytes)
	if p99 := percentile(while, 99); p99 > max(10*percentile(before, 99), 100*time.Millisecond) {
		t.Errorf("while a hub hangs 1 %% of sends to others take longer than %v", p99)
	}
	c.awaitReached(t, c.nodes[0])
	c.awaitReached(t, stuck)
	c.checkInvariants(t)
}

// timeSends sends to clients at the second hub through the first, and returns how long each send took, in order.
// It sends at least so many, and until it is enough.
func (c *cluster) timeSends(t *testing.T, crowd *crowd, count int, enough func() bool) []time.Duration {
	t.Helper()
	const workers = 4
	took := make([][]time.Duration, workers)
	together(t, workers, func(worker int) error {
		delivery := controlv1.NewDeliveryServiceClient(c.dial(t, c.nodes[0], worker))
		for i := 0; i < count/workers || !enough(); i++ {
			m := crowd.members[1+len(c.nodes)*(i%20)]
			began := time.Now()
			response, err := delivery.Send(t.Context(), &controlv1.SendRequest{
				Target: &controlv1.Target{Connections: []string{m.id}}, Wait: controlv1.Wait_WAIT_WRITTEN, WaitTimeout: durationpb.New(patience),
				Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: ignored}},
			})
			if err != nil {
				return err
			}
			took[worker] = append(took[worker], time.Since(began))
			if response.GetReceipt().GetWritten() != 1 {
				return fmt.Errorf("to %s at hub %s: %v", m.id, m.hub, response)
			}
		}
		return nil
	})
	all := slices.Concat(took...)
	slices.Sort(all)
	return all
}

func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[min(len(sorted)*p/100, len(sorted)-1)]
}

// pile sends to everybody through the first hub until it is over, so that much is on its way to the third one.
func (c *cluster) pile(t *testing.T, over <-chan struct{}, count *atomic.Int64) error {
	delivery := controlv1.NewDeliveryServiceClient(c.dial(t, c.nodes[0], callers-1))
	text := strings.Repeat("x", pileBytes)
	for {
		select {
		case <-over:
			return nil
		default:
		}
		_, err := delivery.Send(t.Context(), &controlv1.SendRequest{
			Target: &controlv1.Target{Users: []string{"user-2"}}, Wait: controlv1.Wait_WAIT_NONE,
			Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: text}},
		})
		if err != nil {
			return err
		}
		count.Add(1)
	}
}
