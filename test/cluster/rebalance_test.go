package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

// TestRebalance: a full hub moves its surplus to empty hubs, also if the call is broken.
func TestRebalance(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3, flags: []string{
		"--drain-delay=300ms", "--drain-period=5s", "--resume-window=10m",
	}})
	full := c.nodes[0]
	const surplus = 20
	for i := range surplus * 3 / 2 {
		full.attachReliable(t, fmt.Sprint("user-", i))
	}
	c.awaitLoads(t, 30, 0, 0)

	ctx, breakCall := context.WithCancel(t.Context())
	defer breakCall()
	stream, err := controlv1.NewHubServiceClient(c.nodes[1].backend).RebalanceHubs(ctx,
		&controlv1.RebalanceHubsRequest{})
	bed.Report(t, err)
	first, err := stream.Recv()
	bed.Report(t, err)
	if all := first.GetHubs(); len(all) != 1 || all[0].GetHubId() != full.Hub ||
		all[0].GetSurplus() != surplus || all[0].GetUnreachable() {
		t.Errorf("the first report: %v", first)
	}
	breakCall()
	c.awaitLoads(t, 10, 10, 10)

	// A second call follows the first, or finds nothing to do.
	last := c.rebalance(t, c.nodes[2])
	for _, h := range last.GetHubs() {
		if h.GetHubId() != full.Hub || h.GetMoved() != surplus {
			t.Errorf("the last report: %v", last)
		}
	}
	if again := c.rebalance(t, full); len(again.GetHubs()) > 0 {
		t.Errorf("balanced hubs move: %v", again)
	}
	c.awaitLoads(t, 10, 10, 10)
	if moved := full.Sum(t, "connhub_rebalance_moved_total"); moved != surplus {
		t.Errorf("%d moved, want %d", moved, surplus)
	}
	c.checkInvariants(t)

	drain, err := controlv1.NewHubServiceClient(full.backend).DrainHub(t.Context(),
		&controlv1.DrainHubRequest{HubId: c.nodes[2].Hub})
	bed.Report(t, err)
	_, err = drain.Recv()
	bed.Report(t, err)
	testkit.Eventually(t, "a hub that drains refuses", func() bool {
		stream, err := controlv1.NewHubServiceClient(c.nodes[2].backend).RebalanceHubs(t.Context(),
			&controlv1.RebalanceHubsRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return status.Code(err) == codes.Unavailable
	})
}

// attachReliable connects a client that does not come back when its link ends.
func (n *node) attachReliable(t *testing.T, user string) {
	t.Helper()
	path, err := n.invite(t.Context(), &tally.Member{Namespace: "default", User: user})
	bed.Report(t, err)
	conn, err := net.Dial("tcp", n.Clients)
	bed.Report(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = bed.NewClient(conn, n.Clients, path, bed.Reliable)
	bed.Report(t, err)
}

// awaitLoads waits until the hubs hold these numbers of connections.
func (c *cluster) awaitLoads(t *testing.T, want ...int64) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprint("connections: ", want), func() bool {
		all := c.nodes[0].hubs(t)
		for i, n := range c.nodes {
			if all[n.Hub].GetConnections() != want[i] {
				return false
			}
		}
		return true
	})
}

// rebalance balances the hubs, and returns the last report.
func (c *cluster) rebalance(t *testing.T, through *node) (last *controlv1.RebalanceHubsResponse) {
	t.Helper()
	stream, err := controlv1.NewHubServiceClient(through.backend).RebalanceHubs(t.Context(),
		&controlv1.RebalanceHubsRequest{})
	bed.Report(t, err)
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) && last.GetDone() {
			return last
		}
		bed.Report(t, err)
		if t.Failed() {
			return last
		}
		last = r
	}
}
