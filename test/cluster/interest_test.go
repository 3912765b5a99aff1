package cluster

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

// addressed is a send with the hubs that have members for it.
type addressed struct {
	namespace string
	target    *controlv1.Target
	matched   int
	hubs      []int // numbers of nodes
}

// countForwards proves that interest is exact: for each send, a hub forwards exactly one call to
// each peer with members for it, and none to further peers.
func (c *cluster) countForwards(t *testing.T) {
	t.Helper()
	crowd := c.newCrowd(t)
	all := scatter(t, c, crowd)
	rounds := bed.Either(10, 100)

	// A filter lease may end on a busy machine: then it begins anew.
	testkit.Eventually(t, "no filter lease ends for a while", func() bool {
		c.awaitCalm(t)
		interest, flood := c.forwards(t)
		want := 0
		for range rounds {
			want += sendEach(t, c, all)
		}
		gotInterest, gotFlood := c.forwards(t)
		gotInterest, gotFlood = gotInterest-interest, gotFlood-flood
		t.Logf("%d sends through each of %d hubs: forwarded by interest %d, want %d; by flood %d",
			rounds*len(all), len(c.nodes), gotInterest, want, gotFlood)
		if gotFlood == 0 && gotInterest != want {
			t.Errorf("forwarded %d calls, want %d", gotInterest, want)
		}
		return gotFlood == 0
	})
	c.checkInvariants(t)
}

// forwards counts the sends that hubs have passed on.
func (c *cluster) forwards(t *testing.T) (interest, flood int) {
	t.Helper()
	const name = "connhub_mesh_forwards_total"
	return c.sum(t, name, `call="send"`, `why="interest"`), c.sum(
		t, name, `call="send"`, `why="flood"`,
	)
}

// scatter puts members at some hubs and not at others, and returns sends to each of them.
func scatter(t *testing.T, c *cluster, crowd *tally.Crowd) (all []addressed) {
	t.Helper()
	places := [][]int{{1}, {2}, {3}, {1, 2}, {2, 3}, {1, 3}, {1, 2, 3}}
	home := map[*tally.Member]int{}
	for _, hubs := range places {
		name := fmt.Sprint("at", hubs)
		namespace := "only"
		for _, number := range hubs {
			namespace = fmt.Sprint(namespace, "-", number)
			m := crowd.Add("default", "user-"+name, "", "group-"+name)
			home[m] = number
		}
		for _, number := range hubs {
			home[crowd.Add(namespace, "nobody", "")] = number
		}
		all = append(all,
			addressed{
				"default", &controlv1.Target{Users: []string{"user-" + name}}, len(hubs), hubs,
			},
			addressed{"default", &controlv1.Target{Groups: []string{"group-" +
				name, "group-none"}}, len(hubs), hubs},
			addressed{namespace, &controlv1.Target{Everyone: true}, len(hubs), hubs})
	}
	c.enter(t, crowd, crowd.Members, func(m *tally.Member) *node { return c.nodes[home[m]-1] })
	crowd.Identify(t, c.nodes[0].backend, crowd.Members)
	for _, m := range crowd.In("default") {
		all = append(all, addressed{
			"default", &controlv1.Target{Connections: []string{m.ID}}, 1, []int{home[m]},
		})
	}
	return append(all,
		addressed{"default", &controlv1.Target{Groups: []string{"group-none"}}, 0, nil},
		addressed{"nobody-here", &controlv1.Target{Everyone: true}, 0, nil})
}

// sendEach sends every message through each hub, and returns the expected number of forwarded
// calls.
func sendEach(t *testing.T, c *cluster, all []addressed) (want int) {
	t.Helper()
	for _, n := range c.nodes {
		delivery := controlv1.NewDeliveryServiceClient(n.backend)
		for _, a := range all {
			response, err := delivery.Send(t.Context(), &controlv1.SendRequest{
				Namespace: a.namespace, Target: a.target,
				WaitTimeout: durationpb.New(bed.CallLimit),
				Message:     &controlv1.Message{Payload: &controlv1.Message_Text{Text: "0 0"}},
			})
			if err != nil {
				t.Fatal(err)
			}
			if r := response.GetReceipt(); int(r.GetMatched()) != a.matched &&
				len(r.GetUnreachableHubs()) == 0 {
				t.Fatalf("%v through hub %d: receipt %v, want %d matched",
					a.target, n.number, r, a.matched)
			}
			for _, number := range a.hubs {
				if number != n.number {
					want++
				}
			}
		}
	}
	return want
}
