package discovery_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/internal/testkit"
)

// lapses waits for a Snapshot with exactly these lapsed hubs.
func lapses(t *testing.T, w *discovery.Watcher, ids ...string) discovery.Snapshot {
	t.Helper()
	for {
		s, ok := testkit.Receive(t, "the lapsed hubs", w.Snapshots())
		if !ok {
			t.Fatal("watcher was closed")
		}
		if slices.Equal(slices.Sorted(maps.Keys(s.Lapsed)), ids) {
			return s
		}
	}
}

// endLease ends the lease of a hub's key or mark, as etcd does after it hung for longer than the
// lease.
func endLease(t *testing.T, client *clientv3.Client, folder, id string) {
	t.Helper()
	key, err := client.Get(t.Context(), prefixOf(t)+folder+id)
	if err != nil || len(key.Kvs) != 1 {
		t.Fatal(key, err)
	}
	if _, err := client.Revoke(t.Context(), clientv3.LeaseID(key.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
}

// A starting hub finds the hubs whose leases have ended and which have not noticed yet. It finds
// them in the same Snapshot in which their keys are missing.
func TestAHubThatLostItsLeaseIsFoundByANewOne(t *testing.T) {
	t.Parallel()
	g := newGate(t, shared.Endpoint())
	a, b := open(t, at(g.address())), open(t)
	w := watch(t, b)
	register(t, a, "a")
	sees(t, w, "a")

	g.hold()
	endLease(t, admin(t, shared.Endpoint()), "/hubs/", "a")
	lapses(t, w, "a")
	late := watch(t, open(t))
	s := lapses(t, late, "a")
	equal(t, "what is known of it", s.Lapsed["a"], member("a"))
	equal(t, "hubs that are listed", len(s.Members), 0)

	g.reopen()
	sees(t, late, "a")
	lapses(t, watch(t, open(t)))
}

// A killed hub is lapsed until a peer has its mark deleted. The mark of a listed hub stays.
func TestAHubThatIsGoneIsStruckOff(t *testing.T) {
	t.Parallel()
	a, b, c := open(t, lease(time.Second)), open(t, lease(time.Second)), open(t)
	w := watch(t, b)
	register(t, a, "a")
	register(t, b, "b")
	register(t, c, "c")
	sees(t, w, "a", "b", "c")
	if err := a.Close(); err != nil { // it does not deregister
		t.Fatal(err)
	}
	lapses(t, w, "a")
	b.StrikeOff("a")
	b.StrikeOff("c")
	lapses(t, w)
	client := admin(t, shared.Endpoint())
	marks, err := client.Get(t.Context(), prefixOf(t)+"/seen/", clientv3.WithPrefix(),
		clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "marks", marks.Count, int64(2))
	if err := c.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := sees(t, w, "b"); len(s.Lapsed) > 0 {
		t.Errorf("a hub that has deregistered lapses: %v", s.Lapsed)
	}
}

// A mark that gets lost while the key stays is written again.
func TestAMarkThatIsLostIsWrittenAgain(t *testing.T) {
	t.Parallel()
	client := admin(t, shared.Endpoint())
	for name, lose := range map[string]func(t *testing.T, prefix string){
		"deleted": func(t *testing.T, prefix string) {
			_, _ = client.Delete(t.Context(), prefix+"/seen/a")
		},
		"lease ended": func(t *testing.T, _ string) { endLease(t, client, "/seen/", "a") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := open(t)
			w := watch(t, a)
			sees(t, w) // so the first readAll requests no check of the registration
			register(t, a, "a")
			before := sees(t, w, "a")
			lose(t, prefixOf(t))
			eventually(t, "the mark is there again", func() bool {
				mark, err := client.Get(t.Context(), prefixOf(t)+"/seen/a")
				return err == nil && len(mark.Kvs) == 1 &&
					mark.Kvs[0].CreateRevision > before.Revision
			})
		})
	}
}
