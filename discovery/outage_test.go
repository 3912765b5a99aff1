package discovery_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/connhub/connhub/discovery"
)

func TestEtcdIsStoppedAndStartedAgain(t *testing.T) {
	t.Parallel()
	etcd := serve(t)
	numbers := count(t)
	a := open(t, at(etcd.Endpoint()), lease(2*time.Second), numbers.into)
	b := open(t, at(etcd.Endpoint()))
	own, w := watch(t, a), watch(t, b)
	register(t, a, "a")
	sees(t, own, "a")
	before := sees(t, w, "a")

	etcd.Close()
	eventually(t, "the news are older than the lease",
		func() bool { return a.StaleFor() > 2500*time.Millisecond })
	if s := b.StaleFor(); s <= 0 {
		t.Errorf("the other one's news are %v old", s)
	}
	equal(t, "hubs while etcd is away", numbers.value("connhub_discovery_hubs", ""), 1.0)
	equal(t, "hubs of the snapshot that stands", len(next(t, watch(t, b)).Members), 1)

	etcd.start()
	for _, r := range []*discovery.Registry{a, b} {
		eventually(t, "the news are fresh again", func() bool { return r.StaleFor() == 0 })
	}
	if s := sees(t, w, "a"); s.Revision < before.Revision {
		t.Errorf("revision %d after %d", s.Revision, before.Revision)
	}
	if numbers.sum("connhub_discovery_resyncs_total") < 1 {
		t.Error("no resync was counted")
	}
	staysListed(t, etcd, "a")
}

// staysListed waits until the hub's lease was renewed after the restart. A renewal must happen: at
// its start etcd gives each lease in its data only a single further TTL.
func staysListed(t *testing.T, etcd *server, id string) {
	t.Helper()
	client := admin(t, etcd.Endpoint())
	deadline := time.Now().Add(3 * time.Second)
	eventually(t, "some lease' time has passed", func() bool {
		got, err := client.Get(t.Context(), prefixOf(t)+"/hubs/"+id)
		if err == nil && len(got.Kvs) == 1 {
			return time.Now().After(deadline)
		}
		deadline = time.Now().Add(3 * time.Second)
		return false
	})
}

func TestAWatcherThatWasCutOffGetsAFreshSnapshotDespiteACompaction(t *testing.T) {
	t.Parallel()
	etcd := serve(t)
	g := newGate(t, etcd.Endpoint())
	a, b := open(t, at(etcd.Endpoint())), open(t, at(g.address()))
	w := watch(t, b)
	register(t, a, "a")
	sees(t, w, "a")

	g.close()
	eventually(t, "it is cut off", func() bool { return b.StaleFor() > 0 })
	if err := a.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	register(t, a, "a2")
	client := admin(t, etcd.Endpoint())
	got, err := client.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(t.Context(), got.Header.Revision); err != nil {
		t.Fatal(err)
	}
	g.reopen()
	sees(t, w, "a2")
	eventually(t, "the news are fresh", func() bool { return b.StaleFor() == 0 })
}

func TestAnUnchangedStateIsSentAgainAfterALoss(t *testing.T) {
	t.Parallel()
	g := newGate(t, shared.Endpoint())
	a := open(t, at(g.address()))
	w := watch(t, a)
	register(t, a, "a")
	sees(t, w, "a")
	g.close()
	g.reopen()
	equal(t, "hubs of the snapshot after the loss", len(next(t, w).Members), 1)
}

func TestAnEtcdThatSaysNothingIsLost(t *testing.T) {
	t.Parallel()
	g := newGate(t, shared.Endpoint())
	numbers := count(t)
	var log journal
	a, b := open(t, at(g.address()), lease(2*time.Second), numbers.into, logTo(&log)), open(t)
	w := watch(t, a)
	register(t, a, "a")
	sees(t, w, "a")
	eventually(t, "the watch is open", func() bool { return a.StaleFor() == 0 })

	g.hold()
	eventually(t, "it noticed", func() bool { return a.StaleFor() > 0 })
	register(t, b, "b")
	g.reopen()
	sees(t, w, "a", "b")
	eventually(t, "the news are fresh", func() bool { return a.StaleFor() == 0 })
	// On a busy machine, etcd may have been silent before as well.
	lost, back := log.count("etcd is lost"), log.count("etcd is back")
	n := numbers.value("connhub_discovery_resyncs_total", "silent")
	if n < 1 || lost < 1 || lost != back {
		t.Errorf("%v resyncs, %d times lost, %d times back", n, lost, back)
	}
}

func TestAnEtcdInWhichNothingChangesIsHeard(t *testing.T) {
	t.Parallel()
	etcd := serve(t)
	a := open(t, at(etcd.Endpoint()))
	register(t, a, "a")
	var log journal
	// With this lease, 2 s without an answer would be a loss.
	b := open(t, at(etcd.Endpoint()), lease(4*time.Second), logTo(&log))
	w := watch(t, b)
	sees(t, w, "a")
	eventually(t, "the watch is open", func() bool { return b.StaleFor() == 0 })
	begin := time.Now()
	eventually(t, "two silences' time has passed",
		func() bool { return time.Since(begin) > 5*time.Second })
	equal(t, "lines that etcd is lost", log.count("etcd is lost"), 0)
	select {
	case s := <-w.Snapshots():
		t.Errorf("another snapshot came: %v", s)
	default:
	}
}

func TestAHubThatSleptIsRegisteredAgain(t *testing.T) {
	t.Parallel()
	g := newGate(t, shared.Endpoint())
	var log journal
	a, b := open(t, at(g.address()), lease(time.Second), logTo(&log)), open(t)
	w := watch(t, b)
	sees(t, watch(t, a)) // so the first readAll requests no check of the registration
	register(t, a, "a")
	sees(t, w, "a")
	g.hold()
	sees(t, w) // its lease has ended
	eventually(t, "it says why it is not listed",
		func() bool { return log.count("renew lease: etcd did not answer") > 0 })
	g.reopen()
	sees(t, w, "a")
}

func TestALoginThatHangsHoldsUpNobody(t *testing.T) {
	t.Parallel()
	g := newGate(t, shared.Endpoint())
	g.hold()
	a := open(t, at(g.address()), func(c *discovery.Config) {
		c.Username, c.Password = "hub", "password"
		c.DialTimeout = 10 * patience
	})
	ctx, cancel := context.WithCancel(t.Context())
	registered, closed := make(chan error, 1), make(chan struct{})
	go func() { registered <- a.Register(ctx, member("a")) }()
	eventually(t, "somebody logs in", g.inUse)
	cancel()
	select {
	case err := <-registered:
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Register did not return")
	}
	go func() {
		defer close(closed)
		_ = a.Close()
	}()
	closes(t, "the registry", closed)
}

func TestAnEtcdThatLostItsDataGetsTheClusterBack(t *testing.T) {
	t.Parallel()
	etcd := serve(t)
	a, b := open(t, at(etcd.Endpoint())), open(t, at(etcd.Endpoint()))
	register(t, a, "a")
	register(t, b, "b")
	id := a.ClusterID()
	etcd.restartEmpty()
	client := admin(t, etcd.Endpoint())
	eventually(t, "both are listed again", func() bool {
		got, err := client.Get(t.Context(), prefixOf(t)+"/hubs/", clientv3.WithPrefix(),
			clientv3.WithCountOnly())
		return err == nil && got.Count == 2
	})
	got, err := client.Get(t.Context(), prefixOf(t)+"/cluster")
	if err != nil || len(got.Kvs) != 1 {
		t.Fatal(got, err)
	}
	equal(t, "cluster in etcd", string(got.Kvs[0].Value), id)
	sees(t, watch(t, a), "a", "b")
}

func TestAForeignClusterIsNotJoined(t *testing.T) {
	t.Parallel()
	var log journal
	a := open(t, logTo(&log))
	w := watch(t, a)
	register(t, a, "a")
	sees(t, w, "a")
	ours := a.ClusterID()
	client := admin(t, shared.Endpoint())
	key := prefixOf(t) + "/cluster"

	put(t, client, key, "foreign1")
	put(t, client, prefixOf(t)+"/hubs/foreign", `{"id":"foreign","control_address":"127.0.0.1:1"}`)
	eventually(t, "it says so", func() bool { return log.count("reason=foreign_cluster") == 1 })
	eventually(t, "its news get old", func() bool { return a.StaleFor() > 300*time.Millisecond })
	select {
	case s := <-w.Snapshots():
		t.Errorf("it shows %v", s)
	default:
	}
	equal(t, "its own idea", a.ClusterID(), ours)
	_, err := a.DeclareDead(t.Context(), "x", "a")
	if !errors.Is(err, discovery.ErrForeignCluster) {
		t.Errorf("declare dead: %v", err)
	}
	if err := a.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := a.Register(t.Context(), member("a2")); !errors.Is(err, discovery.ErrForeignCluster) {
		t.Errorf("register: %v", err)
	}

	put(t, client, key, ours)
	register(t, a, "a3")
	sees(t, w, "a3", "foreign")
	equal(t, "lines about the foreign cluster", log.count("reason=foreign_cluster"), 1)
}

func TestTheClusterIsNamedOnceAndKept(t *testing.T) {
	t.Parallel()
	ids := make(map[string]bool)
	var registries []*discovery.Registry
	for range 5 {
		registries = append(registries, open(t)) // all at once: only one of them writes the id
	}
	for i, r := range registries {
		register(t, r, string(rune('a'+i)))
		ids[r.ClusterID()] = true
	}
	equal(t, "ids", len(ids), 1)
	for id := range ids {
		if len(id) != 8 {
			t.Errorf("id %q, want 8 characters", id)
		}
	}
	other := open(t, func(c *discovery.Config) { c.Prefix += "-other" })
	register(t, other, "a") // does not collide with hub a of the first cluster
	if ids[other.ClusterID()] {
		t.Error("another prefix has the same cluster")
	}
}

func TestDeregisterSaysThatEtcdIsAway(t *testing.T) {
	t.Parallel()
	g := newGate(t, shared.Endpoint())
	a := open(t, at(g.address()))
	register(t, a, "a")
	g.close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.Deregister(ctx); err == nil {
		t.Error("it says that it did")
	}
}
