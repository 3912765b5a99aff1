package discovery

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/connhub/connhub/discovery/embedded"
)

// Cases that need two events at the same moment are tested here, from inside the package.

func alone(t *testing.T) *Registry {
	t.Helper()
	config := embedded.DefaultConfig()
	config.Dir, config.ClientAddress = t.TempDir(), "127.0.0.1:0"
	config.NoSync = true
	etcd, err := embedded.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	c := DefaultConfig()
	c.Endpoints = []string{etcd.Endpoint()}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// A compaction between readAll and the start of the watch.
func TestAWatchFromACompactedRevisionIsGivenUp(t *testing.T) {
	t.Parallel()
	r := alone(t)
	f := newFollower(r)
	if err := f.readAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := r.dialer.getClient(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var last *clientv3.PutResponse
	for range 3 {
		if last, err = client.Put(t.Context(), "/elsewhere", ""); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.Compact(t.Context(), last.Header.Revision); err != nil {
		t.Fatal(err)
	}
	err = f.followChanges(t.Context(), new(backoff))
	if !errors.Is(err, rpctypes.ErrCompacted) || lossOf(err) != lossCompacted {
		t.Errorf("got %v", err)
	}
	if err := f.readAll(t.Context()); err != nil || f.revision < last.Header.Revision {
		t.Errorf("after a second readAll: revision %d, want %d, %v", f.revision,
			last.Header.Revision,
			err)
	}
}

// The key was created, but the answer got lost.
func TestARegistrationKnowsItsOwnKey(t *testing.T) {
	t.Parallel()
	r := alone(t)
	g := newRegistration(r, "a", `{"id":"a","control_address":"127.0.0.1:1"}`)
	t.Cleanup(g.endUnstarted)
	if err := g.ensureListed(t.Context()); err != nil {
		t.Fatal(err)
	}
	key, mark := g.key.id, g.mark.id
	g.claimed = false
	if err := g.ensureListed(t.Context()); err != nil || g.key.id != key || g.mark.id != mark {
		t.Errorf("got %v; leases %x and %x, want %x and %x", err, g.key.id, g.mark.id, key, mark)
	}
}

// A lease ends between its renewal and the creation of the keys.
func TestAClaimUnderAnEndedLeaseGetsAnother(t *testing.T) {
	t.Parallel()
	for name, which := range map[string]func(*registration) *lease{
		"of the key":  func(g *registration) *lease { return &g.key },
		"of the mark": func(g *registration) *lease { return &g.mark },
	} {
		t.Run(name, func(t *testing.T) {
			r := alone(t)
			g := newRegistration(r, "a", `{"id":"a","control_address":"127.0.0.1:1"}`)
			t.Cleanup(g.endUnstarted)
			l := which(g)
			err := errors.Join(g.grantLease(t.Context(), &g.key),
				g.grantLease(t.Context(), &g.mark), g.revokeLease(t.Context(), *l))
			if err != nil {
				t.Fatal(err)
			}
			ended := l.id
			if _, _, err := r.readInCluster(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := g.createKeys(t.Context()); !errors.Is(err, errLeaseLost) {
				t.Fatalf("got %v", err)
			}
			if err := g.ensureListed(t.Context()); err != nil || l.id == ended {
				t.Errorf("got %v; lease %x, after %x", err, l.id, ended)
			}
		})
	}
}
