package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/etcd"
	"github.com/connhub/connhub/test/bed/relay"
	"github.com/connhub/connhub/test/chaos/verdict"
)

// publicURL is the audience of tokens. No test resolves it.
const publicURL = "http://clients.test"

const (
	callers   = 6 // backends that send
	streamers = 2 // of them: they use SendStream
	// joiner and kicker are the backends that join connections to groups, and close connections.
	// watcher gets events.
	joiner, kicker, watcher = callers, callers + 1, callers + 2
	tokenGroups             = 4 // groups of the tokens
	lateGroups              = 3 // groups that are joined at run time
	perUser                 = 2 // clients of a user
)

// run is a run of a schedule. Its methods that take faults or wait belong to the test's goroutine.
type run struct {
	t       *testing.T
	plan    *plan
	dir     string // of the secrets' files
	secrets []string
	record  *recorder
	etcd    *etcd.Cluster
	places  []*place
	clients []*client

	calling     sync.WaitGroup
	stopCalling context.CancelFunc
	reading     sync.WaitGroup // clients and events
	life        context.Context
	stopReading context.CancelFunc
}

// openRun starts etcd, the hubs, the clients and the callers.
func openRun(t *testing.T, p *plan) *run {
	t.Helper()
	r := &run{
		t: t, plan: p, dir: t.TempDir(), record: &recorder{began: time.Now()}, etcd: etcd.Start(t),
	}
	for i := range watcher + 1 {
		r.secrets = append(
			r.secrets, fmt.Sprintf("secret-of-backend-%d-%s", i, strings.Repeat("x", 32)),
		)
	}
	r.writeFile("backend.secrets", strings.Join(r.secrets, "\n"))
	r.writeFile("peer.secrets", "secret-of-peers-"+strings.Repeat("y", 32))
	r.writeFile("token.key", strings.Repeat("k", 48))
	r.life, r.stopReading = context.WithCancel(context.Background())
	for i := range places {
		host := fmt.Sprint("127.0.0.", i+1)
		at := &place{number: i, host: host, clients: relay.Start(t, host)}
		for _, endpoint := range r.etcd.Endpoints() {
			e := relay.Start(t, host)
			e.Connect(endpoint)
			at.toEtcd = append(at.toEtcd, e)
		}
		r.places = append(r.places, at)
		r.launch(at)
	}
	t.Cleanup(func() {
		for _, p := range r.places {
			if p.now != nil {
				p.now.Terminate()
			}
			if p.next != nil {
				p.next.Terminate()
			}
		}
	})
	t.Cleanup(func() { r.stopReading(); r.reading.Wait() })
	for _, p := range r.places {
		r.openNext(p)
	}
	r.awaitHubs()
	r.startClients()
	r.startCallers()
	return r
}

func (r *run) writeFile(name, content string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// newRandom makes a source that the seed and a name decide.
func (r *run) newRandom(kind, number int) *rand.Rand {
	return rand.New(rand.NewPCG(r.plan.seed, uint64(kind*1000+number+1)))
}

func (r *run) startClients() {
	r.t.Helper()
	reliable, plain := bed.Either(16, 100), bed.Either(6, 20)
	for i := range reliable + plain {
		c := &client{
			run: r, index: i, random: r.newRandom(1, i), heard: map[int]bool{},
			spec: verdict.Client{
				User:     fmt.Sprint("user-", i/perUser),
				Groups:   []string{fmt.Sprint("group-", i%tokenGroups)},
				Reliable: i < reliable,
			},
		}
		c.path = r.invite(c)
		r.clients = append(r.clients, c)
		r.record.clients = append(r.record.clients, c.spec)
	}
	for _, c := range r.clients {
		r.reading.Go(func() { c.live(r.life) })
	}
	r.awaitClients()
}

// awaitClients waits until each client has a link.
func (r *run) awaitClients() {
	r.t.Helper()
	for _, c := range r.clients {
		testkit.Eventually(r.t, fmt.Sprint("client ", c.index, " is connected"), func() bool {
			id, isLinked := c.state()
			return id != "" && isLinked
		})
	}
}

// awaitHubs waits until each hub reaches all hubs that run.
func (r *run) awaitHubs() {
	r.t.Helper()
	testkit.Eventually(r.t, "every hub reaches every peer", func() bool {
		open := r.openReady()
		for _, from := range open {
			known := from.current().peersOf(r.t.Context())
			for _, to := range open {
				peer := known[to.current().Hub]
				if !peer.GetReachable() || peer.GetSuspect() {
					return false
				}
			}
		}
		return true
	})
}

// playFaults carries out the schedule.
func (r *run) playFaults() {
	r.t.Helper()
	for _, s := range r.plan.steps {
		pause(r.t.Context(), s.after)
		r.openReady()
		var mends []func()
		for _, f := range s.faults {
			mends = append(mends, r.strike(f))
		}
		pause(r.t.Context(), s.holds)
		// A hub that starts may need the network: that is mended first.
		for i := range s.faults {
			if !isOfProcess(s.faults[i]) {
				mends[i]()
			}
		}
		for i := range s.faults {
			if isOfProcess(s.faults[i]) {
				mends[i]()
			}
		}
	}
}

// finish ends the traffic when everything is well, and proves that everything is well.
func (r *run) finish() {
	r.t.Helper()
	r.awaitHubs()
	r.stopCalling()
	r.calling.Wait()
	r.awaitClients()
	r.sayLast()
	r.stopReading()
	r.reading.Wait()
	for _, p := range r.openReady() {
		h := p.current()
		h.Get(r.t, "/debug/invariants")
		if n := h.Sum(r.t, "connhub_restarts_total"); n > 0 {
			r.t.Errorf("hub %s has restarted %d times by itself", h.Hub, n)
		}
	}
}

// lastRounds is how often the last words are said at most: a client may begin anew meanwhile.
const lastRounds = 10

// sayLast has each caller send last messages to everyone, in rounds. Each client must get a message
// of a round behind the first one. Then it had to get all messages before, those of the first round
// too, and the rule "lost" finds each that it missed.
func (r *run) sayLast() {
	r.t.Helper()
	random := r.newRandom(4, 0)
	r.sayRound(random)
	var missing *client
	for range lastRounds {
		before := r.record.size()
		words := r.sayRound(random)
		missing = nil
		for _, c := range r.clients {
			isKnown := func() bool { return c.hasHeardAny(words) || c.isYoungerThan(before) }
			if !testkit.Holds(r.t, isKnown) {
				r.reportDeaf(c)
				return
			}
			if !c.hasHeardAny(words) {
				missing = c
			}
		}
		if missing == nil {
			return
		}
	}
	r.reportDeaf(missing)
}

// sayRound sends a message of each caller to everyone, and returns the numbers of the sends.
func (r *run) sayRound(random *rand.Rand) (words []int) {
	for i := range callers {
		c := &caller{run: r, number: i, random: random}
		words = append(words, c.sendOne(context.Background(), verdict.Target{Everyone: true},
			controlv1.Wait_WAIT_QUEUED))
	}
	return words
}

// reportDeaf fails the test because a client does not get the last messages.
func (r *run) reportDeaf(missing *client) {
	r.t.Helper()
	id, isLinked := missing.state()
	r.t.Errorf("client %d never gets the last messages; connection %q, linked %v\n%s",
		missing.index, id, isLinked, verdict.Excerpt(r.record.history(), verdict.Violation{
			Connection: id, At: r.record.size(),
		}, excerptLines))
}

// invite returns the path at which a client connects, with a token for all its connections.
func (r *run) invite(c *client) string {
	r.t.Helper()
	path, err := issueToken(r.t.Context(), r.places[0].current(), c.spec)
	if err != nil {
		r.t.Fatal(err)
	}
	return path
}

// pause waits, or until the context ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
