package discovery_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/internal/testkit"
)

func TestOneDeclarerWins(t *testing.T) {
	t.Parallel()
	a := open(t)
	for _, c := range []struct {
		by  string
		won bool
	}{
		{"first", true},
		{"second", false},
		{"first", true}, // a repeated call, as after a lost answer
	} {
		won, err := a.DeclareDead(t.Context(), "x", c.by)
		if err != nil || won != c.won {
			t.Errorf("%s: %v, %v, want %v", c.by, won, err, c.won)
		}
	}
}

func TestOfManyDeclarersAtOnceOneWins(t *testing.T) {
	t.Parallel()
	registries := []*discovery.Registry{open(t), open(t), open(t)}
	var wins atomic.Int32
	var all sync.WaitGroup
	for i := range 12 {
		all.Go(func() {
			won, err := registries[i%len(registries)].DeclareDead(t.Context(), "x", fmt.Sprint(i))
			if err != nil {
				t.Error(err)
			}
			if won {
				wins.Add(1)
			}
		})
	}
	all.Wait()
	equal(t, "winners", wins.Load(), int32(1))

	client := admin(t, shared.Endpoint())
	key, err := client.Get(t.Context(), prefixOf(t)+"/dead/x")
	if err != nil || len(key.Kvs) != 1 {
		t.Fatal(key, err)
	}
	ttl, err := client.TimeToLive(t.Context(), clientv3.LeaseID(key.Kvs[0].Lease))
	if err != nil || ttl.GrantedTTL != int64(24*time.Hour/time.Second) {
		t.Errorf("it stands for %v, %v", ttl, err)
	}
}

func TestAHubThatIsListedCanNotBeDeclaredDead(t *testing.T) {
	t.Parallel()
	a, b := open(t), open(t)
	register(t, a, "a")
	won, err := b.DeclareDead(t.Context(), "a", "b")
	if won || !errors.Is(err, discovery.ErrStillRegistered) {
		t.Errorf("got %v, %v", won, err)
	}
	if won, err := a.DeclareDead(t.Context(), "a", "a"); won || err == nil {
		t.Errorf("itself: %v, %v", won, err)
	}
	if won, err := a.DeclareDead(t.Context(), "a/b", "b"); won || err == nil {
		t.Errorf("no id: %v, %v", won, err)
	}
}

func TestADeadIDIsNotRegistered(t *testing.T) {
	t.Parallel()
	numbers := count(t)
	a := open(t, numbers.into)
	if won, err := a.DeclareDead(t.Context(), "a", "b"); !won || err != nil {
		t.Fatal(won, err)
	}
	if err := a.Register(t.Context(), member("a")); !errors.Is(err, discovery.ErrDeclaredDead) {
		t.Errorf("got %v", err)
	}
	equal(t, "declared_dead",
		numbers.value("connhub_discovery_registrations_total", "declared_dead"), 1.0)
	register(t, a, "a2")
	select {
	case <-a.Dead():
		t.Error("the death of a different hub closed Dead")
	default:
	}
}

func TestAHubThatWasDeclaredDeadLearnsIt(t *testing.T) {
	t.Parallel()
	g := newGate(t, shared.Endpoint())
	a, b := open(t, at(g.address()), lease(time.Second)), open(t)
	w := watch(t, b)
	register(t, a, "a")
	sees(t, w, "a")
	g.close()
	sees(t, w)
	if won, err := b.DeclareDead(t.Context(), "a", "b"); !won || err != nil {
		t.Fatal(won, err)
	}
	g.reopen()
	closes(t, "Dead", a.Dead())
	if err := a.Deregister(t.Context()); err != nil {
		t.Errorf("deregister: %v", err)
	}
	if err := a.Register(t.Context(), member("a2")); !errors.Is(err, discovery.ErrDeclaredDead) {
		t.Errorf("register: %v", err)
	}
	equal(t, "hubs", len(next(t, watch(t, b)).Members), 0)
}

func TestAHubLearnsItsDeathBeforeItsLeaseIsDue(t *testing.T) {
	t.Parallel()
	a := open(t, lease(time.Minute)) // so its own renewals are 20 s apart
	w := watch(t, a)
	sees(t, w)
	register(t, a, "a")
	sees(t, w, "a")
	// In a single transaction, so that the hub can't register in between.
	_, err := admin(t, shared.Endpoint()).Txn(t.Context()).Then(
		clientv3.OpDelete(prefixOf(t)+"/hubs/a"),
		clientv3.OpPut(prefixOf(t)+"/dead/a", `{"by":"b"}`),
	).Commit()
	if err != nil {
		t.Fatal(err)
	}
	meter := testkit.NewMeter()
	defer meter.Stop()
	begin := time.Now()
	closes(t, "Dead", a.Dead())
	if took := time.Since(begin); took > meter.Limit(10*time.Second) {
		t.Errorf("it took %v", took)
	}
}
