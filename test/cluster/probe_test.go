package cluster

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

const (
	// mebibyte is the largest payload.
	mebibyte = 1 << 20
	// pileMessages of pileBytes are more than a hub keeps for a peer that does not take them.
	pileMessages = 600
	pileBytes    = 64 << 10
	// probesDue are so many that a share of them tells something; in the long form there are more.
	probesDue, probesDueInLong = 300, 1500
	// probeRate is the number of probes of a peer in a second.
	probeRate = 10
	// slowProbes is the share of probes that may take more than 100 ms. missedProbes is the share
	// of probes that need not return: hubs, etcd and clients share this machine's cores.
	slowProbes, missedProbes = 0.02, 0.2
	// hungLimit bounds 99 of 100 sends while a hub hangs. Before, they take a tenth of that. Each
	// send passes through sendHandovers goroutines of two hubs and the test.
	hungLimit     = 100 * time.Millisecond
	sendHandovers = 5
	// leaseSpare is the time for which a hub may be held up before a filter lease of 500 ms ends
	// for lack of a probe. A probe is due every 100 ms.
	leaseSpare = 400 * time.Millisecond
)

// deliverLarge proves that the hubs' messages about themselves never wait behind the messages of
// backends. While megabytes go to hundreds of clients, and small messages to thousands, probes
// return in 100 ms and filter leases last.
func (c *cluster) deliverLarge(t *testing.T) {
	t.Helper()
	few := c.gather(t, bed.Either(30, 100), "few")
	many := c.gather(t, bed.Either(1000, 6667), "many")
	c.awaitCalm(t)
	c.watchProbes(t, "1 MiB to hundreds", func() { c.broadcast(t, few, 5, mebibyte) })
	c.watchProbes(t, "100 bytes to thousands", func() { c.broadcast(t, many, 10, 100) })
	c.checkInvariants(t)
}

// broadcast sends to a whole audience through the hubs in turn, and waits until each client has all
// messages.
func (c *cluster) broadcast(t *testing.T, to *audience, count, size int) {
	t.Helper()
	text := strings.Repeat("x", size)
	began := time.Now()
	clients := 0
	for i := range count {
		response, err := controlv1.NewDeliveryServiceClient(
			c.nodes[i%len(c.nodes)].backend,
		).Send(t.Context(), &controlv1.SendRequest{
			Namespace: to.namespace, Target: &controlv1.Target{Everyone: true},
			Wait: controlv1.Wait_WAIT_WRITTEN, WaitTimeout: durationpb.New(bed.CallLimit),
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

// watchProbes repeats work until enough probes were due. It checks that probes are sent and return
// in 100 ms meanwhile, all but a few that a busy machine delays, and that none of these ends a
// filter lease.
func (c *cluster) watchProbes(t *testing.T, what string, work func()) {
	t.Helper()
	meter := testkit.NewMeter()
	defer meter.Stop()
	before, began := c.probes(t), time.Now()
	due := func() float64 {
		return float64(len(c.nodes)*(len(c.nodes)-1)) * probeRate * time.Since(began).Seconds()
	}
	work()
	for due() < float64(bed.Either(probesDue, probesDueInLong)) {
		work()
	}
	took, wanted := time.Since(began), due()
	p := c.probes(t).since(before)
	t.Logf("%s, for %v: %.0f probes of %.0f that were due; %.0f took more than 100 ms, %.2f %%; "+
		"all took less than %s s; %.0f sends without a filter lease",
		what, took, p.answered, wanted, p.slow(), 100*p.slow()/p.answered, p.longest(), p.flood)
	if p.slow() > meter.Share(slowProbes)*p.answered {
		t.Errorf("%s: %.0f of %.0f probes took more than 100 ms", what, p.slow(), p.answered)
	}
	if p.answered < (1-meter.Share(missedProbes))*wanted {
		t.Errorf("%s: %.0f probes came back, %.0f were due", what, p.answered, wanted)
	}
	if p.flood > 0 && !mayEndLeases(meter) {
		t.Errorf("%s: %.0f sends without a filter lease, the longest pause was %v",
			what, p.flood, meter.Pause())
	}
}

// mayEndLeases reports whether the machine has held up goroutines so long that filter leases may
// have ended.
func mayEndLeases(m *testkit.Meter) bool { return sendHandovers*m.Pause() > leaseSpare }

// probeBounds are the buckets of the metric, from the bucket that counts the probes that are quick
// enough.
var probeBounds = []string{"0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "1", "2.5", "5", "10", "+Inf"}

// probes counts the probes that were answered so far.
type probes struct {
	answered float64
	within   []float64 // probeBounds
	flood    float64   // sends that were passed on without a filter lease
}

func (c *cluster) probes(t *testing.T) probes {
	t.Helper()
	const name = "connhub_mesh_probe_seconds"
	p := probes{within: make([]float64, len(probeBounds))}
	for _, n := range c.nodes {
		metrics := n.Get(t, "/metrics")
		p.answered += bed.SumSamples(t, metrics, name+"_count")
		for i, bound := range probeBounds {
			p.within[i] += bed.SumSamples(t, metrics, name+"_bucket", fmt.Sprintf("le=%q", bound))
		}
		p.flood += bed.SumSamples(t, metrics, "connhub_mesh_forwards_total", `why="flood"`)
	}
	return p
}

func (p probes) since(before probes) probes {
	p.answered, p.flood = p.answered-before.answered, p.flood-before.flood
	for i := range p.within {
		p.within[i] -= before.within[i]
	}
	return p
}

// slow is how many took more than 100 ms.
func (p probes) slow() float64 { return p.answered - p.within[0] }

// longest is the bound of the bucket with the slowest probe.
func (p probes) longest() string { return probeBounds[slices.Index(p.within, p.answered)] }

// hangOne proves that a hub that hangs costs its peers nothing. Messages to the peers' clients are
// as quick as before, though all messages for the hanging hub pile up.
func (c *cluster) hangOne(t *testing.T, count int) {
	t.Helper()
	crowd := c.newCrowd(t)
	for i := range 60 {
		crowd.Add("default", fmt.Sprint("user-", i), "")
	}
	c.enter(t, crowd, crowd.Members, c.spread)
	crowd.Identify(t, c.nodes[0].backend, crowd.Members)
	c.awaitCalm(t)

	before := c.timeSends(t, crowd, count, func() bool { return true })
	meter := testkit.NewMeter()
	defer meter.Stop()
	stuck := c.nodes[2]
	goOn := stuck.freeze(t)
	defer goOn()
	over := make(chan struct{})
	var piling sync.WaitGroup
	var piled atomic.Int64
	piling.Go(func() { bed.Report(t, c.pile(t, over, &piled)) })
	began := time.Now()
	while := c.timeSends(t, crowd, count, func() bool {
		return piled.Load() >= pileMessages || time.Since(began) > frozenWork
	})
	close(over)
	piling.Wait()
	goOn()

	t.Logf("p99 before %v, while a hub hangs %v: %.1f times; at most %v and %v; %d messages of "+
		"%d bytes to the hub that hangs",
		percentile(before, 99), percentile(while, 99),
		float64(percentile(while, 99))/float64(percentile(before, 99)),
		percentile(before, 100), percentile(while, 100), piled.Load(), pileBytes)
	if p99, limit := percentile(while, 99),
		max(10*percentile(before, 99), hungLimit)+sendHandovers*meter.Pause(); p99 > limit {
		t.Errorf(
			"while a hub hangs 1 %% of sends to others take longer than %v, limit %v", p99, limit,
		)
	}
	c.awaitReached(t, c.nodes[0])
	c.awaitReached(t, stuck)
	c.checkInvariants(t)
}

// timeSends sends to clients at the second hub through the first, and returns the duration of each
// send, in order. It sends at least so many messages, and continues until enough is closed.
func (c *cluster) timeSends(
	t *testing.T, crowd *tally.Crowd, count int, enough func() bool,
) []time.Duration {
	t.Helper()
	const workers = 4
	took := make([][]time.Duration, workers)
	together(t, workers, func(worker int) error {
		delivery := controlv1.NewDeliveryServiceClient(c.dial(t, c.nodes[0], worker))
		for i := 0; i < count/workers || !enough(); i++ {
			m := crowd.Members[1+len(c.nodes)*(i%20)]
			began := time.Now()
			response, err := delivery.Send(t.Context(), &controlv1.SendRequest{
				Target: &controlv1.Target{Connections: []string{m.ID}},
				Wait:   controlv1.Wait_WAIT_WRITTEN, WaitTimeout: durationpb.New(bed.CallLimit),
				Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: tally.Ignored}},
			})
			if err != nil {
				return err
			}
			took[worker] = append(took[worker], time.Since(began))
			if response.GetReceipt().GetWritten() != 1 {
				return fmt.Errorf("to %s at hub %s: %v", m.ID, m.Hub, response)
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

// pile sends to all clients through the first hub until over is closed, so that much is on its way
// to the third hub.
func (c *cluster) pile(t *testing.T, over <-chan struct{}, count *atomic.Int64) error {
	delivery := controlv1.NewDeliveryServiceClient(c.dial(t, c.nodes[0], tally.Callers-1))
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
