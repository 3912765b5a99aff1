package discovery_test

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/connhub/connhub/discovery"
)

func TestAWatcherGetsTheStateOfTheMomentAtOnce(t *testing.T) {
	t.Parallel()
	a := open(t)
	register(t, a, "a")
	early := watch(t, a)
	known := sees(t, early, "a")
	late := next(t, watch(t, a))
	equal(t, "late watcher's snapshot", state(late), state(known))
}

// state returns s without StaleFor, which depends on the clock.
func state(s discovery.Snapshot) discovery.Snapshot {
	s.StaleFor = 0
	return s
}

func TestASlowWatcherGetsTheLastState(t *testing.T) {
	t.Parallel()
	const hubs = 50
	a := open(t)
	slow, quick := watch(t, a), watch(t, a)
	client := admin(t, shared.Endpoint())
	var ids []string
	for i := range hubs {
		id := fmt.Sprintf("h%02d", i)
		ids = append(ids, id)
		put(t, client, prefixOf(t)+"/hubs/"+id, `{"id":"`+id+`","control_address":"127.0.0.1:1"}`)
	}
	want := sees(t, quick, ids...)
	equal(t, "the slow one's first snapshot", state(next(t, slow)), state(want))
	select {
	case s := <-slow.Snapshots():
		t.Errorf("and another: %v", s)
	default:
	}
}

func TestAClosedWatcherIsLeftAlone(t *testing.T) {
	t.Parallel()
	a := open(t)
	w, other := a.Watch(), watch(t, a)
	w.Close()
	w.Close()
	register(t, a, "a")
	sees(t, other, "a")
	for s := range w.Snapshots() {
		if len(s.Members) > 0 {
			t.Errorf("a snapshot came after Close: %v", s)
		}
	}
}

func TestASnapshotIsNeverChangedAfterwards(t *testing.T) {
	t.Parallel()
	a, b := open(t), open(t)
	w := watch(t, a)
	register(t, a, "a")
	old := sees(t, w, "a")
	register(t, b, "b")
	sees(t, w, "a", "b")
	equal(t, "members of the old snapshot", len(old.Members), 1)
}

func TestHubsOfOtherVersionsAreUnderstood(t *testing.T) {
	t.Parallel()
	w := watch(t, open(t))
	put(t, admin(t, shared.Endpoint()), prefixOf(t)+"/hubs/new",
		`{"id":"new","control_address":"[::1]:9090","colours":["red"],`+
			`"nested":{"x":1},"generation":2}`)
	equal(t, "member", sees(t, w, "new").Members["new"],
		discovery.Member{ID: "new", ControlAddress: "[::1]:9090"})
}

func TestStrangersAreIgnoredAndLoggedOnce(t *testing.T) {
	t.Parallel()
	var log journal
	client := admin(t, shared.Endpoint())
	at := prefixOf(t) + "/hubs/"
	put(t, client, at+"early", "not json")
	a := open(t, logTo(&log))
	w := watch(t, a)
	for _, value := range []string{
		"", "{}", `{"id":"other","control_address":"127.0.0.1:1"}`, `{"id":"late"}`,
	} {
		put(t, client, at+"late", value)
	}
	put(t, client, at+"a/b", `{"id":"a/b","control_address":"127.0.0.1:1"}`)
	put(t, client, prefixOf(t)+"/something/else", "x")
	put(t, client, prefixOf(t)+"/hubsters", "x")
	register(t, a, "a")
	sees(t, w, "a")
	for _, key := range []string{"early", "late", "a/b"} {
		equal(t, "lines about "+key, log.count("key="+at+key+" "), 1)
	}
	equal(t, "lines", log.count("key holds no valid hub"), 3)

	put(t, client, at+"late", `{"id":"late","control_address":"127.0.0.1:1"}`)
	sees(t, w, "a", "late")
	put(t, client, at+"late", "broken again") // then the hub is no longer a member
	sees(t, w, "a")
}

func TestManyChangesOfOneRevisionAreOneSnapshot(t *testing.T) {
	t.Parallel()
	a := open(t)
	w := watch(t, a)
	sees(t, w)
	client := admin(t, shared.Endpoint())
	var puts []clientv3.Op
	for _, id := range []string{"x", "y", "z"} {
		value := `{"id":"` + id + `","control_address":"127.0.0.1:1"}`
		puts = append(puts, clientv3.OpPut(prefixOf(t)+"/hubs/"+id, value))
	}
	if _, err := client.Txn(t.Context()).Then(puts...).Commit(); err != nil {
		t.Fatal(err)
	}
	equal(t, "hubs of the next snapshot", len(next(t, w).Members), 3)
}

func TestMetricsSayHowManyHubsThereAre(t *testing.T) {
	t.Parallel()
	numbers := count(t)
	a := open(t, numbers.into)
	w := watch(t, a)
	register(t, a, "a")
	sees(t, w, "a")
	equal(t, "hubs", numbers.value("connhub_discovery_hubs", ""), 1.0)
	equal(t, "stale", numbers.value("connhub_discovery_stale_seconds", ""), 0.0)
}
