package control

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"pgregory.net/rapid"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// publish sends a text to a group as a client does that wants no echo.
func (f *fixture) publish(t *testing.T, from *client, group, text string) {
	t.Helper()
	who := from.Identity()
	err := f.server.Publish(t.Context(), &hub.Send{
		Message: &hub.Message{
			Namespace: who.Namespace, Kind: hub.Text, Payload: []byte(text),
			Sender: hub.Sender{Connection: who.ID, User: who.User},
		},
		Target: hub.Target{
			Groups: []string{group}, Except: hub.Exclusion{Connections: []string{string(who.ID)}},
		},
	})
	if err != nil {
		t.Error(err)
	}
}

// receives waits until a client has got exactly this.
func (c *client) receives(t *testing.T, want string) {
	t.Helper()
	eventually(t, func() error {
		if have := c.received(); have != want {
			return fmt.Errorf("received %.200q, want %.200q", have, want)
		}
		return nil
	})
}

func TestWhatClientsPublishArrivesOnceAndInTheirOrderAtEveryHub(t *testing.T) {
	const each = 300
	c := newCluster(t, 3)
	p := &wireProtocol{}
	var senders, members []*client
	for i, f := range c.hubs {
		senders = append(senders, f.connect(t, p, fmt.Sprint("sender-", i), "lobby"))
		members = append(members, f.connect(t, p, "member", "lobby"))
	}
	var all sync.WaitGroup
	for i, f := range c.hubs {
		all.Go(func() {
			for n := range each {
				f.publish(t, senders[i], "lobby", fmt.Sprint(i, "-", n))
			}
		})
	}
	all.Wait()
	for i, client := range slices.Concat(senders, members) {
		want := 3 * each
		if i < len(senders) {
			want = 2 * each // noEcho
		}
		eventually(t, func() error {
			if have := strings.Count(client.received(), string(frameEnd)); have != want {
				return fmt.Errorf("client %d has %d messages of %d", i, have, want)
			}
			return nil
		})
		next := make(map[string]int)
		for frame := range strings.SplitSeq(
			strings.TrimSuffix(client.received(), string(frameEnd)), string(frameEnd),
		) {
			sender, number, _ := strings.Cut(frame, "-")
			if number != fmt.Sprint(next[sender]) {
				t.Fatalf("client %d: %s after %d of that sender", i, frame, next[sender])
			}
			next[sender]++
		}
		if i < len(senders) && next[fmt.Sprint(i)] > 0 {
			t.Errorf("sender %d has an echo", i)
		}
	}
	for _, f := range c.hubs {
		holdLost(t, f, 0, 0)
	}
}

// lostPublishesOf returns connhub_client_publishes_lost_total by reason.
func lostPublishesOf(t *testing.T, f *fixture) map[string]float64 {
	t.Helper()
	families, err := f.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	have := make(map[string]float64)
	for _, family := range families {
		if family.GetName() == "connhub_client_publishes_lost_total" {
			for _, m := range family.GetMetric() {
				have[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	return have
}

// holdLost compares the counts of lost publishes, except "unknown". A hub that got no processor for
// 500 ms may have confirmed a message too late: then it counts as unknown, though it came.
func holdLost(t *testing.T, f *fixture, unreachable, slow float64) {
	t.Helper()
	have := lostPublishesOf(t, f)
	want := map[string]float64{
		"unreachable": unreachable, "slow": slow, "unknown": have["unknown"],
	}
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
}

// stuckProtocol does not come back from encoding until it may.
type stuckProtocol struct {
	wireProtocol
	free chan struct{}
}

func (p *stuckProtocol) Encode(m *hub.Message, r hub.Route) []byte {
	<-p.free
	return p.wireProtocol.Encode(m, r)
}

func TestAPeerThatIsStuckCostsAClientThatPublishesNothing(t *testing.T) {
	// window is how many calls a lane takes that the peer has not begun; rest is how many come
	// when the window is full.
	const window, rest = 4096, 900
	c := newCluster(t, 3)
	p, stuck := &wireProtocol{}, &stuckProtocol{free: make(chan struct{})}
	free := sync.OnceFunc(func() { close(stuck.free) })
	t.Cleanup(free) // before the hub shuts down
	sender := c.hubs[0].connect(t, p, "ann")
	here, healthy := c.hubs[0].connect(t, p, "bob", "lobby"),
		c.hubs[1].connect(t, p, "eve", "lobby")
	slow := c.hubs[2].connect(t, stuck, "joe", "lobby")

	var want strings.Builder
	kept := ""
	for n := range window + rest {
		c.hubs[0].publish(t, sender, "lobby", fmt.Sprint(n))
		_, _ = fmt.Fprint(&want, n, "|")
		switch {
		case n == window-1:
			kept = want.String()
		case n%500 == 499: // the healthy hub must not fall behind by a window
			healthy.receives(t, want.String())
		}
	}
	here.receives(t, want.String())
	healthy.receives(t, want.String())
	holdLost(t, c.hubs[0], 0, rest)
	if have := slow.received(); have != "" {
		t.Fatalf("received %.100q from a hub that is stuck", have)
	}
	free()
	slow.receives(t, kept)
	c.hubs[0].publish(t, sender, "lobby", "again")
	slow.receives(t, kept+"again|")
}

func TestAPublishThatAHubCannotBeGivenIsCountedAndNoError(t *testing.T) {
	c := newCluster(t, 3)
	p := &wireProtocol{}
	sender, other := c.hubs[0].connect(t, p, "ann"), c.hubs[1].connect(t, p, "bob", "lobby")
	c.hubs[2].connect(t, p, "eve", "lobby")
	c.hubs[2].server.grpc.Stop()
	c.hubs[0].losesSightOf(t, string(c.hubs[2].hub.ID()))
	c.hubs[0].publish(t, sender, "lobby", "x")
	other.receives(t, "x|")
	holdLost(t, c.hubs[0], 1, 0)
}

func TestAPublishThatIsInLineWhenTheLinkEndsIsCounted(t *testing.T) {
	c := newCluster(t, 2)
	p, stuck := &wireProtocol{}, &stuckProtocol{free: make(chan struct{})}
	var stop sync.WaitGroup
	t.Cleanup(func() { // before the hub shuts down
		close(stuck.free)
		stop.Wait()
	})
	sender := c.hubs[0].connect(t, p, "ann")
	c.hubs[1].connect(t, stuck, "joe", "lobby")
	for range 3 {
		c.hubs[0].publish(t, sender, "lobby", "x")
	}
	holdLost(t, c.hubs[0], 0, 0)
	stop.Go(c.hubs[1].server.grpc.Stop) // it waits for the stuck calls
	eventually(t, func() error {
		if n := lostPublishesOf(t, c.hubs[0])["unknown"]; n != 3 {
			return fmt.Errorf("%v are counted", n)
		}
		return nil
	})
}

func TestAHubThatLeavesTakesNothingFromClients(t *testing.T) {
	f := newFixture(t)
	ann, bob := f.connect(t, &wireProtocol{}, "ann"), f.connect(t, &wireProtocol{}, "bob", "lobby")
	f.publish(t, ann, "lobby", "x")
	if err := f.hub.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := f.server.Publish(t.Context(), &hub.Send{Message: &hub.Message{
		Namespace: hub.DefaultNamespace, Kind: hub.Text,
	}, Target: hub.Target{Groups: []string{"lobby"}}})
	if !errors.Is(err, hub.ErrShuttingDown) {
		t.Errorf("error %v", err)
	}
	if bob.received() != "x|" {
		t.Errorf("received %q", bob.received())
	}
}

// A peer delivers the same message that was published.
func TestAForwardedPublishIsTheSame(t *testing.T) {
	f := newFixture(t)
	e := &executor{f.hub, nil, slogTo(f.log), newVerbTable(), nil}
	p := &wireProtocol{}
	f.connect(t, p, "ann", "lobby")
	excluded := f.connect(t, p, "bob", "lobby")
	name := rapid.StringMatching(`[^\p{Cc}]{0,20}`)
	rapid.Check(t, func(rt *rapid.T) {
		began := time.Now()
		published := &hub.Message{
			ID: "m" + name.Draw(rt, "id"), Namespace: hub.DefaultNamespace,
			Event: name.Draw(rt, "event"),
			Kind: rapid.SampledFrom([]hub.PayloadKind{
				hub.Text, hub.JSON, hub.Binary, hub.Protobuf,
			}).Draw(rt, "kind"),
			Payload:  []byte(name.Draw(rt, "payload")),
			Sender:   hub.Sender{Connection: excluded.ID(), User: name.Draw(rt, "user")},
			Metadata: rapid.MapOfN(name, name, 0, 3).Draw(rt, "metadata"),
		}
		if ttl := rapid.Int64Range(0, 1000).Draw(rt, "ttl in hours"); ttl > 0 {
			published.Expires = began.Add(time.Duration(ttl) * time.Hour)
		}
		call, err := newPublishCall(&hub.Send{
			Message: published,
			Target: hub.Target{Groups: []string{"lobby"}, Except: hub.Exclusion{
				Connections: []string{string(excluded.ID())},
			}},
		}, began)
		if err != nil {
			rt.Fatal(err)
		}
		forward := proto.CloneOf(call.Forward)
		forward.Caller, forward.Age = call.Caller, durationpb.New(time.Since(began))
		if result := executed(t, e, forward); result.GetSend().GetReceipt().GetMatched() != 1 {
			rt.Fatalf("result %v", result)
		}
		have, route := p.last(t)
		if route != (hub.Route{Kind: hub.RouteGroup, Group: "lobby"}) {
			rt.Errorf("route %v", route)
		}
		if diff := cmp.Diff(
			published, have, cmpopts.EquateEmpty(), cmpopts.EquateApproxTime(time.Minute),
		); diff != "" {
			rt.Error(diff)
		}
	})
	if excluded.received() != "" {
		t.Errorf("the excluded one received %q", excluded.received())
	}
}

// A hub of an earlier version does not know of senders: a send of a backend has none.
func TestASendOfABackendHasNoSender(t *testing.T) {
	f := newFixture(t)
	p := &wireProtocol{}
	f.connect(t, p, "ann")
	call, err := newPublishCall(&hub.Send{
		Message: &hub.Message{
			Namespace: hub.DefaultNamespace, Kind: hub.Text, Sender: hub.Sender{Connection: "c"},
		},
		Target: hub.Target{Users: []string{"ann"}},
	}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	call.Forward.GetCall().(*peerv1.Forward_Send).Send.Sender = nil
	e := &executor{f.hub, nil, slogTo(f.log), newVerbTable(), nil}
	if err := errorIn(executed(t, e, call.Forward)); err != nil {
		t.Fatal(err)
	}
	if m, _ := p.last(t); m.Sender != (hub.Sender{}) {
		t.Errorf("sender %v", m.Sender)
	}
}
