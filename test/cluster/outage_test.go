package cluster

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

const (
	// hanging is the length of an outage in seconds. It is longer than the 10 s of a hub's lease,
	// so the keys are gone when etcd is back.
	hanging = 13
	// killed is shorter: an etcd that starts gives every lease its time anew.
	killed = 5
	// longOutage is for the long form.
	longOutage = 60
	// outagePace is a pause that leaves a part of the machine to tests beside this test.
	outagePace = 40 * time.Millisecond
)

// TestEtcdHangs proves that hubs do without an etcd that does not answer. No client is dropped, and
// no hub gets a new id. Joins and sends continue, and their answers tell for how long etcd has been
// silent. A hub that starts meanwhile waits, joins when etcd is back, and is found. The same holds
// for a hub that starts just then.
func TestEtcdHangs(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3})
	c.withoutEtcd(t, bed.Either(hanging, longOutage), func() {
		c.etcd.Freeze(t)
	}, func() { c.etcd.Thaw(t) })
}

// TestEtcdIsKilled is the same with an etcd that is killed and returns with its data.
func TestEtcdIsKilled(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3})
	c.withoutEtcd(t, bed.Either(killed, longOutage), c.etcd.Kill, func() { c.etcd.Launch(t) })
}

func (c *cluster) withoutEtcd(t *testing.T, seconds int, stop, resume func()) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	crowd, all := c.joiners(t, seed)
	old := c.nodes
	over := make(chan struct{})
	var working sync.WaitGroup
	for _, j := range all {
		working.Go(func() {
			pace := time.NewTicker(outagePace)
			defer pace.Stop()
			for {
				select {
				case <-over:
					return
				case <-pace.C:
				}
				if err := j.step(t.Context(), []int{0, 1, 2}); err != nil {
					t.Errorf("worker %d: %v", j.number, err)
					return
				}
			}
		})
	}
	finish := sync.OnceFunc(func() { close(over); working.Wait() })
	t.Cleanup(finish) // also after a failure

	stop()
	away := time.NewTimer(time.Duration(seconds) * time.Second)
	began := time.Now()
	for _, n := range old {
		testkit.Eventually(t, "a hub notices that etcd is away", func() bool {
			return n.staleFor(t) > 0
		})
	}
	t.Logf("noticed after %v", time.Since(began))
	newcomer := c.addNode(t)
	testkit.Eventually(t, "the new hub says what it waits for", func() bool {
		return strings.Contains(newcomer.readiness(t), "etcd")
	})
	stale := staleSteps(all)
	<-away.C
	for _, n := range old {
		if n.staleFor(t) == 0 {
			t.Error("discovery is not stale any more")
		}
	}
	if steps := staleSteps(all) - stale; steps == 0 {
		t.Error("no answer said that discovery is stale")
	} else {
		t.Logf("%d joins and sends without etcd", steps)
	}
	select {
	case <-newcomer.Ready:
		t.Error("a new hub is ready without etcd")
	default:
	}

	resume()
	began = time.Now()
	late := c.addNode(t) // sees no trouble itself
	c.awaitReady(t, newcomer)
	c.awaitReady(t, late)
	for _, n := range c.nodes {
		c.awaitReached(t, n)
		testkit.Eventually(t, "every hub is listed, and the list is heard", func() bool {
			return n.staleFor(t) == 0 && listed(n.hubs(t)) == len(c.nodes)
		})
	}
	t.Logf("all is well %v after etcd is back", time.Since(began))
	for _, n := range old {
		if !n.hubs(t)[n.Hub].GetSelf() {
			t.Errorf("hub %d goes on under another id than %s", n.number, n.Hub)
		}
	}
	finish()
	summarize(t, crowd, all)
	c.checkReach(t, crowd, newcomer)
	c.checkReach(t, crowd, late)
	crowd.CheckStrays(t)
	c.checkInvariants(t)
}

func staleSteps(all []*joiner) (sum int64) {
	for _, j := range all {
		sum += j.stale.Load()
	}
	return sum
}

func listed(hubs map[string]*controlv1.Hub) (count int) {
	for _, h := range hubs {
		if h.GetRegistered() {
			count++
		}
	}
	return count
}

// staleFor is for how long the hub has not heard from etcd.
func (n *node) staleFor(t *testing.T) time.Duration {
	t.Helper()
	response, err := controlv1.NewHubServiceClient(n.backend).ListHubs(
		t.Context(), &controlv1.ListHubsRequest{},
	)
	if err != nil {
		t.Fatal(err)
	}
	return response.GetDiscoveryStaleFor().AsDuration()
}

// readiness is the hub's answer to a readiness probe.
func (n *node) readiness(t *testing.T) string {
	t.Helper()
	code, body := n.Ask(t, "/readyz")
	if code == http.StatusOK {
		return ""
	}
	return body
}

// checkReach proves that a newcomer is a full member of the cluster: messages sent through each hub
// reach its client, and messages sent through it reach every client.
func (c *cluster) checkReach(t *testing.T, crowd *tally.Crowd, newcomer *node) {
	t.Helper()
	m := crowd.Add("newcomers", "newcomer", "")
	c.enter(t, crowd, []*tally.Member{m}, at(newcomer))
	crowd.Identify(t, newcomer.backend, []*tally.Member{m})
	for _, n := range c.nodes {
		c.checkSend(t, n, "newcomers", len(crowd.In("newcomers")))
		c.checkSend(t, n, "default", len(crowd.In("default")))
	}
}

// checkSend sends to everyone in a namespace whose members no test counts. It checks the number of
// recipients, and that no hub is unreachable.
func (c *cluster) checkSend(t *testing.T, n *node, namespace string, want int) {
	t.Helper()
	response, err := controlv1.NewDeliveryServiceClient(n.backend).Send(t.Context(),
		&controlv1.SendRequest{
			Namespace: namespace, Target: &controlv1.Target{Everyone: true},
			Wait: controlv1.Wait_WAIT_WRITTEN, WaitTimeout: durationpb.New(bed.CallLimit),
			Message: &controlv1.Message{
				Payload: &controlv1.Message_Text{Text: tally.Ignored},
			},
			RequireAllHubs: true,
		})
	if err == nil && int(response.GetReceipt().GetWritten()) != want {
		err = errors.New("wrong receipt")
	}
	if err != nil {
		t.Errorf("to %s through hub %d: %v, %v; want %d written",
			namespace, n.number, response, err, want)
	}
}

// TestHubCutOffFromEtcdStaysAMember proves that a hub that reaches its peers but not etcd stays a
// member when its key is gone. It learns of a new hub, which finds no key of it, from the new hub
// itself.
func TestHubCutOffFromEtcdStaysAMember(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3, cutEtcd: 3})
	crowd := c.newCrowd(t)
	for i := range 30 {
		crowd.Add("default", "user", []string{"", "json.connhub.v1"}[i%2])
	}
	c.enter(t, crowd, crowd.Members, c.spread)
	cut := c.nodes[2]
	for _, r := range cut.toEtcd {
		r.Cut()
	}
	testkit.Eventually(t, "the key of the hub is gone", func() bool {
		return !c.nodes[0].hubs(t)[cut.Hub].GetRegistered()
	})
	testkit.Eventually(t, "the hub notices it", func() bool { return cut.staleFor(t) > 0 })
	for _, n := range c.nodes {
		c.awaitReached(t, n)
		c.checkSend(t, n, "default", len(crowd.Members))
	}

	newcomer := c.addNode(t)
	c.awaitReady(t, newcomer)
	if !newcomer.hubs(t)[cut.Hub].GetReachable() {
		t.Error("a new hub is ready before it knows the one that is cut off from etcd")
	}
	testkit.Eventually(t, "the hub that is cut off knows the new one", func() bool {
		return cut.hubs(t)[newcomer.Hub].GetReachable()
	})
	if cut.staleFor(t) == 0 {
		t.Error("the hub that is cut off hears etcd")
	}
	c.checkReach(t, crowd, newcomer)

	for _, r := range cut.toEtcd {
		r.Mend()
	}
	testkit.Eventually(t, "the hub is listed again", func() bool {
		return listed(c.nodes[0].hubs(t)) == 4 && cut.staleFor(t) == 0
	})
	c.checkReach(t, crowd, newcomer)
	c.checkInvariants(t)
}

// TestRecycledAddressIsRefused proves that a new hub on the address of a dead hub, whose key still
// stands, is not taken for the dead hub. Dials that expect the dead hub are refused, and messages
// for its clients do not go to the new hub.
func TestRecycledAddressIsRefused(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3, relayed: true})
	crowd := c.newCrowd(t)
	lost := c.nodes[2]
	m := crowd.Add("default", "user", "")
	c.enter(t, crowd, crowd.Members, at(lost))
	crowd.Identify(t, lost.backend, crowd.Members)

	c.etcd.Kill() // so that the key stands until the new hub is there
	gone := lost.Hub
	lost.Kill(t)
	c.launch(t, lost) // a new hub, at the same address for its peers
	c.etcd.Launch(t)
	c.awaitReady(t, lost)
	for _, n := range c.nodes[:2] {
		// On a busy machine the key may end before the next dial: then there is none to refuse.
		testkit.Eventually(t, "a dial that expects the hub that is gone is refused", func() bool {
			_, listed := n.hubs(t)[gone]
			return !listed || bed.SumSamples(
				t, n.Get(t, "/metrics"), "connhub_mesh_dials_failed_total", `reason="wrong_hub"`,
			) > 0
		})
		testkit.Eventually(t, "the hub at its address is known by its own id", func() bool {
			return n.hubs(t)[lost.Hub].GetReachable()
		})
		if n.hubs(t)[gone].GetReachable() {
			t.Error("the hub that is gone is reachable")
		}
	}
	c.awaitCalm(t)
	send := &controlv1.SendRequest{
		Target:  &controlv1.Target{Connections: []string{m.ID}},
		Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: "0 0"}},
	}
	for range 10 {
		for _, n := range c.nodes[:2] {
			response, err := controlv1.NewDeliveryServiceClient(n.backend).Send(t.Context(), send)
			if err != nil || response.GetReceipt().GetMatched() != 0 {
				t.Errorf("to a client that is gone: %v, %v", response, err)
			}
		}
	}
	if got := lost.Sum(t, "connhub_mesh_forwards_received_total"); got != 0 {
		t.Errorf("the hub at the address got %v sends to clients of the one that is gone", got)
	}
	c.checkInvariants(t)
}
