package discovery_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/internal/testkit"
)

func TestTwoHubsSeeEachOtherLongBeforeALeaseIsOver(t *testing.T) {
	t.Parallel()
	a, b := open(t), open(t)
	fromA, fromB := watch(t, a), watch(t, b)
	meter := testkit.NewMeter()
	defer meter.Stop()
	begin := time.Now()
	register(t, a, "a")
	register(t, b, "b")
	sees(t, fromA, "a", "b")
	s := sees(t, fromB, "a", "b")
	// The lease would end after 10 s. Deregister takes milliseconds.
	if took := time.Since(begin); took > meter.Limit(5*time.Second) {
		t.Errorf("it took %v", took)
	}
	equal(t, "member", s.Members["a"], member("a"))
	if s.Revision <= 0 {
		t.Errorf("revision is %d", s.Revision)
	}
	eventually(t, "the news are fresh", func() bool { return a.StaleFor() == 0 })
}

func TestDeregisterRemovesTheHubAtOnce(t *testing.T) {
	t.Parallel()
	a, b := open(t, lease(time.Minute)), open(t)
	w := watch(t, b)
	register(t, a, "a")
	sees(t, w, "a")
	if err := a.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	sees(t, w)
	if err := a.Deregister(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
	register(t, a, "a2")
	sees(t, w, "a2")
}

func TestAnIDIsRegisteredOnce(t *testing.T) {
	t.Parallel()
	numbers := count(t)
	a, b := open(t), open(t, numbers.into)
	register(t, a, "a")
	if err := b.Register(t.Context(), member("a")); !errors.Is(err, discovery.ErrIDTaken) {
		t.Errorf("the same id: %v", err)
	}
	equal(t, "id_taken", numbers.value("connhub_discovery_registrations_total", "id_taken"), 1.0)
	err := a.Register(t.Context(), member("a2"))
	if !errors.Is(err, discovery.ErrAlreadyRegistered) {
		t.Errorf("a second hub: %v", err)
	}
	register(t, b, "b") // the failed Register left no registration
	equal(t, "registered", numbers.value("connhub_discovery_registrations_total", "registered"),
		1.0)
}

func TestAHubThatVanishedGoesWithItsLease(t *testing.T) {
	t.Parallel()
	a, b := open(t, lease(time.Second)), open(t)
	w := watch(t, b)
	register(t, a, "a")
	sees(t, w, "a")
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	sees(t, w)
}

func TestAHubStaysListedBeyondItsLease(t *testing.T) {
	t.Parallel()
	const ttl = 2 * time.Second
	a := open(t, lease(ttl))
	register(t, a, "a")
	client := admin(t, shared.Endpoint())
	look := func() (created int64) {
		key, err := client.Get(t.Context(), prefixOf(t)+"/hubs/a")
		if err != nil {
			t.Fatal(err)
		}
		if len(key.Kvs) == 0 {
			return 0
		}
		return key.Kvs[0].CreateRevision
	}
	// A goroutine renews the lease three times in its TTL. If the machine stops the process for
	// that long, the lease may end; such a try proves nothing and is repeated.
	for {
		meter, begin, before := testkit.NewMeter(), time.Now(), look()
		eventually(t, "two leases' time has passed",
			func() bool { return time.Since(begin) > 4500*time.Millisecond })
		meter.Stop()
		after := look()
		if after == before && before != 0 {
			return
		}
		if meter.Pause() < ttl/10 {
			t.Fatalf("the key was created at revision %d, and again at %d", before, after)
		}
	}
}

func TestAHubWhoseKeyWasDeletedIsRegisteredAgain(t *testing.T) {
	t.Parallel()
	a := open(t, lease(time.Minute)) // too long for a renewal to notice the loss before the watch
	w := watch(t, a)
	sees(t, w) // so the first readAll requests no check of the registration
	register(t, a, "a")
	before := sees(t, w, "a")
	_, err := admin(t, shared.Endpoint()).Delete(t.Context(), prefixOf(t)+"/hubs/a")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hub is listed by a later revision", func() bool {
		s := sees(t, w, "a")
		return s.Revision > before.Revision
	})
}

func TestAHubWhoseLeaseWasLostIsRegisteredAgain(t *testing.T) {
	t.Parallel()
	a := open(t, lease(time.Minute))
	w := watch(t, a)
	sees(t, w) // so the first readAll requests no check of the registration
	register(t, a, "a")
	before := sees(t, w, "a")
	client := admin(t, shared.Endpoint())
	key, err := client.Get(t.Context(), prefixOf(t)+"/hubs/a")
	if err != nil {
		t.Fatal(err)
	}
	old := key.Kvs[0].Lease
	if _, err := client.Revoke(t.Context(), clientv3.LeaseID(old)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the hub is listed under another lease", func() bool {
		key, err := client.Get(t.Context(), prefixOf(t)+"/hubs/a")
		if err != nil {
			t.Fatal(err)
		}
		return len(key.Kvs) == 1 && key.Kvs[0].Lease != old &&
			key.Kvs[0].ModRevision > before.Revision
	})
}

func TestAStolenKeyIsReportedAndNotTakenBack(t *testing.T) {
	t.Parallel()
	var log journal
	numbers := count(t)
	a := open(t, logTo(&log), numbers.into)
	w := watch(t, a)
	sees(t, w) // so the first readAll requests no check of the registration
	register(t, a, "a")
	sees(t, w, "a")
	put(t, admin(t, shared.Endpoint()), prefixOf(t)+"/hubs/a",
		`{"id":"a","control_address":"127.0.0.2:1"}`)
	eventually(t, "it has tried again and again", func() bool {
		return numbers.value("connhub_discovery_registrations_total", "id_taken") >= 4
	})
	equal(t, "lines about it", log.count(discovery.ErrIDTaken.Error()), 1)
	equal(t, "address", sees(t, w, "a").Members["a"].ControlAddress, "127.0.0.2:1")
}

func TestRegisterWaitsForEtcd(t *testing.T) {
	t.Parallel()
	g := newGate(t, shared.Endpoint())
	g.close()
	numbers := count(t)
	a := open(t, at(g.address()), numbers.into)
	w := watch(t, a)
	registered := make(chan error, 1)
	go func() { registered <- a.Register(t.Context(), member("a")) }()
	eventually(t, "it has tried in vain", func() bool {
		return numbers.value("connhub_discovery_registrations_total", "failed") >= 2
	})
	if a.StaleFor() == 0 || a.ClusterID() != "" {
		t.Errorf("stale for %v, cluster %q: want some and none", a.StaleFor(), a.ClusterID())
	}
	g.reopen()
	if err := <-registered; err != nil {
		t.Fatal(err)
	}
	sees(t, w, "a")
}

func TestRegisterSaysWhatWasWrongWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	g := newGate(t, shared.Endpoint())
	_ = g.listener.Close()
	numbers := count(t)
	a := open(t, at(g.address()), numbers.into)
	ctx, cancel := context.WithCancel(t.Context())
	registered := make(chan error, 1)
	go func() { registered <- a.Register(ctx, member("a")) }()
	eventually(t, "it has tried", func() bool {
		return numbers.value("connhub_discovery_registrations_total", "failed") >= 1
	})
	cancel()
	err := <-registered
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
	// The Registry accepts a further Register.
	ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := a.Register(ctx, member("a")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("again: %v", err)
	}
}

func TestRegisterRefusesABadMember(t *testing.T) {
	t.Parallel()
	err := open(t).Register(t.Context(), discovery.Member{
		ID: "a/b", Name: "x\n", ControlAddress: "nowhere",
	})
	for _, want := range []string{"ID", "Name", "ControlAddress"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want word of %s", err, want)
		}
	}
}

func TestDeregisterAndCloseEndARegister(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*discovery.Registry) error{
		"close": (*discovery.Registry).Close,
		"deregister": func(r *discovery.Registry) error {
			return r.Deregister(context.Background())
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t, shared.Endpoint())
			g.close()
			numbers := count(t)
			a := open(t, at(g.address()), numbers.into)
			registered := make(chan error, 1)
			go func() { registered <- a.Register(t.Context(), member("a")) }()
			eventually(t, "it tries", func() bool {
				return numbers.value("connhub_discovery_registrations_total", "failed") >= 1
			})
			if err := end(a); err != nil {
				t.Error(err)
			}
			if err := <-registered; !errors.Is(err, discovery.ErrClosed) {
				t.Errorf("register: %v", err)
			}
		})
	}
}

func TestAClosedRegistryDoesNothing(t *testing.T) {
	t.Parallel()
	a := open(t)
	register(t, a, "a")
	w := watch(t, a)
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); !errors.Is(err, discovery.ErrClosed) {
		t.Errorf("close: %v", err)
	}
	if err := a.Register(t.Context(), member("b")); !errors.Is(err, discovery.ErrClosed) {
		t.Errorf("register: %v", err)
	}
	if _, err := a.DeclareDead(t.Context(), "x", "y"); err == nil {
		t.Error("declared somebody dead")
	}
	for range w.Snapshots() { // the channel is closed
	}
	for range a.Watch().Snapshots() {
		t.Error("a snapshot came")
	}
}
