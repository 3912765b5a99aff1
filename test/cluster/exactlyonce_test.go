package cluster

import (
	"math/rand/v2"
	"testing"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed/tally"
)

// mostNamed is the share of receipts that may name a hub as unreachable while all hubs run: on a
// busy machine a hub may seem unreachable.
const mostNamed = 0.1

// sendMany is the promise of TestManySendsExactlyOnce, in test/links, with clients and callers
// spread over the hubs. Each message goes through any of them. Some callers have a secret of their
// own, so the hub tells them apart and carries their calls apart. The rest share a secret.
func (c *cluster) sendMany(t *testing.T, many, users, sends int) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d, %d sends", seed, sends)
	crowd := c.assemble(t, many, users)
	c.awaitCalm(t)

	all := make([]*tally.Caller, tally.Callers)
	for i := range all {
		all[i] = tally.NewCaller(crowd, i, seed)
		all[i].Sends = sends / tally.Callers
		secret := min(i, tally.Callers/2) // the second half shares a secret
		all[i].Deliveries = c.deliveries(t, secret)
	}
	sum := tally.RunCallers(t, all)
	sum.Add(c.sayLast(t, c.nodes[0], "default"))
	sum.Add(c.sayLast(t, c.nodes[1], "few"))
	tally.AwaitEnd(t, crowd.Members)
	tally.CheckDelivered(t, crowd.Members, all, sum)
	if most := c.machine.Share(mostNamed) * float64(sum.Receipts); float64(sum.Partial) > most {
		t.Errorf("%d of %d receipts name a hub as unreachable, want %.0f at most: the test "+
			"proves little", sum.Partial, sum.Receipts, most)
	}
	t.Logf("forwards by interest %d, by flood %d",
		c.sum(t, "connhub_mesh_forwards_total", `call="send"`, `why="interest"`),
		c.sum(t, "connhub_mesh_forwards_total", `call="send"`, `why="flood"`))
	crowd.CheckStrays(t)
	c.checkInvariants(t)
}

// awaitReached waits until a hub has found that each peer answers.
func (c *cluster) awaitReached(t *testing.T, n *node) {
	t.Helper()
	testkit.Eventually(t, "no hub is suspect", func() bool {
		for _, h := range n.hubs(t) {
			if !h.GetReachable() || h.GetSuspect() {
				return false
			}
		}
		return true
	})
}
