package test

import (
	"context"
	"fmt"
	"net"
	"net/url"
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
	"github.com/connhub/connhub/test/bed/tally"
)

// plan is how a cluster is made.
type plan struct {
	hubs     int
	hashBits int  // of interest; 0: the binary's default
	relayed  bool // hubs reach each other through relays
	cutEtcd  int  // the hub with this number reaches etcd through relays; 0: none does
}

// cluster is hubs as in production, each a process, and etcd.
type cluster struct {
	plan    plan
	dir     string // of the secrets' files
	secrets []string
	etcd    *etcd
	nodes   []*node
	machine *testkit.Meter // since the cluster was there
}

// node is the place of a hub in a cluster. A new process may take the place.
type node struct {
	*bed.Process

	number  int
	host    string   // all its own: it listens there, and its clients come from there
	relay   *relay   // nil: peers reach it directly
	toEtcd  []*relay // nil: it reaches etcd directly
	backend *grpc.ClientConn
}

// lastWords is how often the last word is said at most: on a busy machine a hub may seem silent.
const lastWords = 5

// publicURL is the audience of tokens. No test resolves it.
const publicURL = "http://clients.test"

// openCluster starts etcd and the hubs, and waits until each hub knows the interests of its peers.
func openCluster(t *testing.T, p plan) *cluster {
	t.Helper()
	c := &cluster{plan: p, dir: t.TempDir(), etcd: startEtcd(t)}
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
		n.relay = startRelay(t, n.host)
	}
	if c.plan.cutEtcd == n.number {
		for _, endpoint := range c.etcd.endpoints() {
			r := startRelay(t, n.host)
			r.connect(endpoint)
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
	endpoints := c.etcd.endpoints()
	if n.toEtcd != nil {
		endpoints = nil
		for _, r := range n.toEtcd {
			endpoints = append(endpoints, r.address)
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
	if c.plan.hashBits > 0 {
		args = append(args, "--interest-hash-bits", strconv.Itoa(c.plan.hashBits))
	}
	if n.relay != nil {
		args = append(args, "--advertise-control", n.relay.address)
	}
	n.Process = bed.Start(t, args...)
	n.Await(t, n.Bound)
	if n.relay != nil {
		n.relay.connect(n.Control)
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

// bearer is the secret of a backend.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return false }

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

// invite returns where a member connects, with a token of this hub.
func (n *node) invite(ctx context.Context, m *tally.Member) (path string, err error) {
	token, err := controlv1.NewAccessServiceClient(n.backend).IssueClientToken(ctx,
		&controlv1.IssueClientTokenRequest{
			Namespace: m.Namespace, User: m.User, Groups: m.Groups,
		})
	if err != nil {
		return "", err
	}
	where, err := url.Parse(token.GetUrl())
	if err != nil {
		return "", err
	}
	return where.RequestURI(), nil
}

// spread puts members at all hubs in turn.
func (c *cluster) spread(m *tally.Member) *node { return c.nodes[m.Index%len(c.nodes)] }

// at puts members at a hub.
func at(n *node) func(*tally.Member) *node { return func(*tally.Member) *node { return n } }

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
	crowd.Read(crowd.Members)
	return crowd
}

// hubs returns a hub's knowledge of all hubs, by id.
func (n *node) hubs(t *testing.T) map[string]*controlv1.Hub {
	t.Helper()
	response, err := controlv1.NewHubServiceClient(n.backend).ListHubs(
		t.Context(), &controlv1.ListHubsRequest{},
	)
	if err != nil {
		t.Fatal(err)
	}
	byID := make(map[string]*controlv1.Hub)
	for _, h := range response.GetHubs() {
		byID[h.GetId()] = h
	}
	return byID
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
