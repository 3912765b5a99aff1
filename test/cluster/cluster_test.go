package cluster

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/etcd"
	"github.com/connhub/connhub/test/bed/relay"
	"github.com/connhub/connhub/test/bed/tally"
)

// TestCluster proves the promises of three healthy hubs, and the promises that hold when a hub
// hangs or is killed.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3})
	t.Run("many sends come exactly once", func(t *testing.T) {
		c.sendMany(t, tally.ManyMembers, tally.ManyUsers, bed.Either(800, 10_000))
	})
	t.Run("sends go only where somebody is", c.countForwards)
	t.Run("a join that has returned is seen everywhere", func(t *testing.T) {
		c.readYourWrites(t, bed.Either(500, 10_000))
	})
	t.Run("pages have everything once", func(t *testing.T) { c.listPages(t, bed.Either(15, 150)) })
	t.Run("large deliveries delay no probes", c.deliverLarge)
	t.Run("a hub that hangs blocks nobody else", func(t *testing.T) {
		c.hangOne(t, bed.Either(600, 10_000))
	})
	// the last test, because it kills the first hub
	t.Run("a retry after a kill is safe", func(t *testing.T) {
		c.killAndRetry(t, bed.Either(80, 1000))
	})
}

// TestClusterWithBadLinks proves the promises that hold when the links between hubs are cut, and
// when only probes pass.
func TestClusterWithBadLinks(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3, relayed: true})
	t.Run("a stream keeps its order", func(t *testing.T) { c.keepOrder(t, bed.Either(3, 24)) })
	t.Run("a stuck data path blocks nobody else", c.stickData)
}

// TestClusterWithCollidingHashes: with hashes of 8 bits almost every name collides with others, so
// peers forward messages to hubs without members for them. Nothing else changes.
func TestClusterWithCollidingHashes(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3, hashBits: 8, relayed: true})
	t.Run("many sends come exactly once", func(t *testing.T) {
		many, users := bed.Either(300, tally.ManyMembers), bed.Either(100, tally.ManyUsers)
		c.sendMany(t, many, users, bed.Either(400, 10_000))
	})
	t.Run("a join that has returned is seen everywhere", func(t *testing.T) {
		c.readYourWrites(t, bed.Either(300, 10_000))
	})
	t.Run("pages have everything once", func(t *testing.T) { c.listPages(t, bed.Either(5, 150)) })
	t.Run("a stream keeps its order", func(t *testing.T) { c.keepOrder(t, bed.Either(2, 24)) })
	t.Run("a hub that hangs blocks nobody else", func(t *testing.T) {
		c.hangOne(t, bed.Either(200, 10_000))
	})
	t.Run("a retry after a kill is safe", func(t *testing.T) {
		c.killAndRetry(t, bed.Either(40, 1000))
	})
}

// plan is how a cluster is made.
type plan struct {
	hubs     int
	hashBits int  // of interest; 0: the binary's default
	relayed  bool // hubs reach each other through relays
	cutEtcd  int  // the hub with this number reaches etcd through relays; 0: none does
	flags    []string
}

// cluster is hubs as in production, each a process, and etcd.
type cluster struct {
	plan    plan
	dir     string // of the secrets' files
	secrets []string
	etcd    *etcd.Cluster
	nodes   []*node
	machine *testkit.Meter // since the cluster was there
}

// lastWords is how often the last word is said at most: on a busy machine a hub may seem silent.
const lastWords = 5

// publicURL is the audience of tokens. No test resolves it.
const publicURL = "http://clients.test"

// openCluster starts etcd and the hubs, and waits until each hub knows the interests of its peers.
func openCluster(t *testing.T, p plan) *cluster {
	t.Helper()
	c := &cluster{plan: p, dir: t.TempDir(), etcd: etcd.Start(t)}
	for i := range tally.Callers + 1 {
		c.secrets = append(
			c.secrets, fmt.Sprintf("secret-of-backend-%d-%s", i, strings.Repeat("x", 32)),
		)
	}
	c.write(t, "backend.secrets", strings.Join(c.secrets, "\n"))
	c.write(t, "peer.secrets", "secret-of-peers-"+strings.Repeat("y", 32))
	c.write(t, "token.key", strings.Repeat("k", 48))
	for range p.hubs {
		c.addNode(t)
	}
	t.Cleanup(c.leave)
	c.awaitReady(t, c.nodes...)
	c.awaitCalm(t)
	c.machine = testkit.NewMeter()
	t.Cleanup(c.machine.Stop)
	return c
}

// leave asks all hubs to stop at once; each is waited for by its own.
func (c *cluster) leave() {
	for _, n := range c.nodes {
		n.Terminate()
	}
}

func (c *cluster) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// addNode starts a further hub. It does not wait for it.
func (c *cluster) addNode(t *testing.T) *node {
	t.Helper()
	n := &node{number: len(c.nodes) + 1}
	n.host = fmt.Sprint("127.0.0.", n.number)
	if c.plan.relayed {
		n.relay = relay.Start(t, n.host)
	}
	if c.plan.cutEtcd == n.number {
		for _, endpoint := range c.etcd.Endpoints() {
			r := relay.Start(t, n.host)
			r.Connect(endpoint)
			n.toEtcd = append(n.toEtcd, r)
		}
	}
	c.nodes = append(c.nodes, n)
	c.launch(t, n)
	return n
}

// launch starts the hub's process, for the first time or again. A process started again is a new
// hub at the same place.
func (c *cluster) launch(t *testing.T, n *node) {
	t.Helper()
	endpoints := c.etcd.Endpoints()
	if n.toEtcd != nil {
		endpoints = nil
		for _, r := range n.toEtcd {
			endpoints = append(endpoints, r.Address)
		}
	}
	args := []string{
		"serve", "--name", fmt.Sprint("hub-", n.number),
		"--listen-clients", n.host + ":0", "--listen-control", n.host + ":0", "--listen-ops",
		n.host + ":0",
		"--public-url", publicURL,
		"--token-key-file", filepath.Join(c.dir, "token.key"),
		"--backend-secret-file", filepath.Join(c.dir, "backend.secrets"),
		"--peer-secret-file", filepath.Join(c.dir, "peer.secrets"),
		"--etcd-endpoints", strings.Join(endpoints, ","),
	}
	args = append(append(args, bed.NoDrain...), c.plan.flags...)
	if c.plan.hashBits > 0 {
		args = append(args, "--interest-hash-bits", strconv.Itoa(c.plan.hashBits))
	}
	if n.relay != nil {
		args = append(args, "--advertise-control", n.relay.Address)
	}
	n.Process = bed.Start(t, args...)
	n.Await(t, n.Bound)
	if n.relay != nil {
		n.relay.Connect(n.Control)
	}
	n.backend = c.dial(t, n, tally.Callers)
}

// processes returns the processes of the current hubs.
func (c *cluster) processes() (hubs []int) {
	for _, n := range c.nodes {
		hubs = append(hubs, n.PID())
	}
	return hubs
}

// awaitReady waits until hubs take clients.
func (c *cluster) awaitReady(t *testing.T, nodes ...*node) {
	t.Helper()
	for _, n := range nodes {
		n.Await(t, n.Ready)
	}
}

// awaitCalm waits until each hub forwards to its peers only messages that they have members for.
func (c *cluster) awaitCalm(t *testing.T) {
	t.Helper()
	testkit.Eventually(t, "every hub has a filter lease of every other one", func() bool {
		for _, n := range c.nodes {
			if n.Sum(t, "connhub_mesh_leases") != len(c.nodes)-1 {
				return false
			}
		}
		return true
	})
}

// dial opens the connection of a backend to a hub. Backends with different secrets are different
// callers.
func (c *cluster) dial(t *testing.T, n *node, secret int) *grpc.ClientConn {
	t.Helper()
	return bed.DialControl(t, n.Control, grpc.WithPerRPCCredentials(bearer(c.secrets[secret])))
}

// deliveries returns the delivery services of all hubs, for a single backend.
func (c *cluster) deliveries(t *testing.T, secret int) (all []controlv1.DeliveryServiceClient) {
	t.Helper()
	for _, n := range c.nodes {
		all = append(all, controlv1.NewDeliveryServiceClient(c.dial(t, n, secret)))
	}
	return all
}

// enter brings members in, each at the hub that at names, with a token of another hub.
func (c *cluster) enter(
	t *testing.T, crowd *tally.Crowd, members []*tally.Member, at func(*tally.Member) *node,
) {
	t.Helper()
	crowd.Connect(t, members, func(m *tally.Member) (*bed.Client, error) {
		issuer := c.nodes[(m.Index+1)%len(c.nodes)]
		return c.admit(t.Context(), m, issuer, at(m))
	})
}

func (c *cluster) admit(
	ctx context.Context, m *tally.Member, issuer, to *node,
) (*bed.Client, error) {
	path, err := issuer.invite(ctx, m)
	if err != nil {
		return nil, err
	}
	// The address identifies a member, so no two members may have the same address.
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(to.host)}}
	return bed.DialClient(ctx, dialer, to.Clients, path, m.Protocol)
}

// spread puts members at all hubs in turn.
func (c *cluster) spread(m *tally.Member) *node { return c.nodes[m.Index%len(c.nodes)] }

// newCrowd makes a crowd without members. The members of the test before must be gone.
func (c *cluster) newCrowd(t *testing.T) *tally.Crowd {
	t.Helper()
	testkit.Eventually(t, "no hub has a connection", func() bool {
		for _, h := range c.nodes[0].hubs(t) {
			if h.GetConnections() > 0 {
				return false
			}
		}
		return true
	})
	crowd := tally.New()
	t.Cleanup(crowd.Disperse)
	return crowd
}

// assemble makes a crowd that is spread over the hubs, and reads.
func (c *cluster) assemble(t *testing.T, many, users int) *tally.Crowd {
	t.Helper()
	crowd := c.newCrowd(t)
	crowd.AddMany(many, users)
	c.enter(t, crowd, crowd.Members, c.spread)
	crowd.Identify(t, c.nodes[0].backend, crowd.Members)
	return crowd
}

// sum adds a metric up over the hubs.
func (c *cluster) sum(t *testing.T, name string, labels ...string) int {
	t.Helper()
	total := 0
	for _, n := range c.nodes {
		total += n.Sum(t, name, labels...)
	}
	return total
}

// checkInvariants has each hub look at itself.
func (c *cluster) checkInvariants(t *testing.T) {
	t.Helper()
	for _, n := range c.nodes {
		n.Get(t, "/debug/invariants")
	}
}

// sayLast sends the last word in a namespace of the members. All members hear it; a member that
// missed it hears it when it is said again.
func (c *cluster) sayLast(t *testing.T, n *node, namespace string) *controlv1.Receipt {
	t.Helper()
	for range lastWords {
		c.awaitReached(t, n)
		receipt := tally.Say(t, n.backend, namespace, tally.LastWord)
		if len(receipt.GetUnreachableHubs()) == 0 {
			return receipt
		}
	}
	t.Fatalf("the last word through hub %d does not reach every hub", n.number)
	return nil
}

// together runs workers at once, and waits for them.
func together(t *testing.T, workers int, work func(worker int) error) {
	t.Helper()
	var group sync.WaitGroup
	for i := range workers {
		group.Go(func() { bed.Report(t, work(i)) })
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}
