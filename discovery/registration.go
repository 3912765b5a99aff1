package discovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// registration keeps one hub listed.
//
// Problem: what etcd knows of the hub can be lost in many ways: the lease ended while etcd was away or the process
// slept, somebody deleted the key, etcd lost its data. And what an unanswered request did is unknown.
//
// Invariants: it has at most one lease that may be alive. The key is created, never overwritten. A key under its
// own lease is its own, so that asking twice does no harm.
//
// Outline: ensure brings things in order from any state and may be called at any time; run calls it at each third
// of the lease, after a failure sooner, and when the follower says that something is odd (poke).
type registration struct {
	// Static.
	r      *Registry
	id     string
	value  string
	poke   chan struct{}   // one token: look whether the key is still ours
	ctx    context.Context // done when the registration, or the Registry, ends
	cancel context.CancelFunc
	done   chan struct{} // closed when nobody owns the fields below

	// Owned by Register, then by run, after done by Deregister.
	keeper  keeper
	lease   clientv3.LeaseID // 0: none that may be alive
	ttl     time.Duration    // as etcd granted it
	claimed bool             // the key was seen under lease, and nothing has happened since
}

// errLeaseLost: etcd doesn't know the lease any more, so its key is gone.
var errLeaseLost = errors.New("lease is lost")

func newRegistration(r *Registry, id, value string) *registration {
	ctx, cancel := context.WithCancel(r.ctx)
	return &registration{
		r: r, id: id, value: value,
		poke: make(chan struct{}, 1), ctx: ctx, cancel: cancel, done: make(chan struct{}),
		keeper: keeper{dialer: r.dialer},
		ttl:    r.config.LeaseTTL,
	}
}

// suspect has run look after the key. It may be called by anybody.
func (g *registration) suspect() {
	select {
	case g.poke <- struct{}{}:
	default: // it will
	}
}

// first registers the hub for the first time: it gives up where trying again is no use. The hub may have been
// deregistered, or the Registry closed, meanwhile: then the error is ErrClosed.
func (g *registration) first(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)()
	var retry backoff
	var why error // the last attempt that ctx didn't cut short
	for {
		err := g.ensure(ctx)
		if err == nil {
			return nil
		}
		g.r.metrics.registered(err)
		if ctx.Err() == nil || why == nil {
			why = err
		}
		again := !final(err) && retry.wait(ctx)
		switch {
		case again:
		case g.ctx.Err() != nil:
			return ErrClosed
		case ctx.Err() != nil:
			return fmt.Errorf("%w; last: %w", ctx.Err(), why)
		default:
			_ = g.release(ctx) // if that fails, the lease ends by itself
			return err
		}
	}
}

// abandon ends a registration that run didn't take over.
func (g *registration) abandon() {
	g.cancel()
	g.keeper.hangUp()
	close(g.done)
}

// run keeps the hub listed.
func (g *registration) run() {
	defer close(g.done)
	defer g.keeper.hangUp()
	var retry backoff
	var failed causes // since it last went well
	spared := false   // an outdated token was passed over since then
	wait := g.ttl / 3
	for g.sleep(wait) {
		before := g.lease
		err := g.ensure(g.ctx)
		switch {
		case err == nil:
			if failed.any() || g.lease != before {
				g.r.log.Info("hub registered again", "id", g.id, "new_lease", g.lease != before)
			}
			retry.reset()
			failed.clear()
			spared = false
			wait = g.ttl / 3
			continue
		case g.ctx.Err() != nil:
			return
		}
		if !g.claimed {
			g.r.metrics.registered(err)
		}
		if errors.Is(err, ErrDeclaredDead) {
			g.r.log.Error("hub was declared dead", "id", g.id)
			g.r.die()
			return
		}
		if outdated(err) && !spared {
			spared = true // the next try mends it
		} else if unsaid, say := failed.note(err); say {
			g.r.log.Warn("hub can't be kept registered; trying on", "id", g.id, "error", err, "repeats", unsaid)
		}
		wait = min(retry.delay(), g.ttl/3)
	}
}

// sleep waits for the time to look after the registration; false: it ends.
func (g *registration) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-g.ctx.Done():
		return false
	case <-g.poke:
		g.claimed = false
	case <-timer.C:
	}
	return true
}

// ensure returns nil when the hub is listed, under a lease that is alive.
func (g *registration) ensure(ctx context.Context) error {
	if g.lease != 0 {
		// After a third of the lease, for a quarter of it: when the member of etcd that is asked hangs, and the next
		// one too, there is time to ask a third.
		switch err := g.keeper.renew(ctx, g.lease, min(g.ttl/4, g.r.config.DialTimeout)); {
		case errors.Is(err, errLeaseLost):
			g.lease, g.claimed = 0, false
		case err != nil:
			return err
		}
	}
	if g.claimed {
		return nil
	}
	if _, _, err := g.r.meet(ctx); err != nil {
		return err
	}
	if err := g.grant(ctx); err != nil {
		return err
	}
	if err := g.claim(ctx); err != nil {
		return err
	}
	g.claimed = true
	return nil
}

// grant gets a lease, unless there is one.
func (g *registration) grant(ctx context.Context) error {
	if g.lease != 0 {
		return nil
	}
	client, err := g.r.dialer.get(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.r.config.DialTimeout)
	defer cancel()
	lease, err := client.Grant(ctx, int64(g.r.config.LeaseTTL/time.Second))
	if err != nil {
		return fmt.Errorf("get lease: %w", failure(err))
	}
	g.lease, g.ttl = lease.ID, time.Duration(lease.TTL)*time.Second
	return nil
}

// claim creates the key under the lease, in the right cluster, unless the hub was declared dead.
func (g *registration) claim(ctx context.Context) error {
	client, err := g.r.dialer.get(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.r.config.DialTimeout)
	defer cancel()
	keys, cluster := &g.r.keys, g.r.ClusterID()
	answer, err := client.Txn(ctx).
		If(
			clientv3.Compare(clientv3.Value(keys.cluster), "=", cluster),
			absent(keys.hubs+g.id),
			absent(keys.dead+g.id),
		).
		Then(clientv3.OpPut(keys.hubs+g.id, g.value, clientv3.WithLease(g.lease))).
		Else(clientv3.OpGet(keys.dead+g.id), clientv3.OpGet(keys.hubs+g.id)).
		Commit()
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		g.lease = 0
		return errLeaseLost
	case err != nil:
		return fmt.Errorf("create key: %w", failure(err))
	case answer.Succeeded:
		g.r.metrics.registered(nil)
		return nil
	}
	dead, hub := answer.Responses[0].GetResponseRange().Kvs, answer.Responses[1].GetResponseRange().Kvs
	switch {
	case len(dead) > 0:
		return ErrDeclaredDead
	case len(hub) == 0:
		return fmt.Errorf("%w: its id has changed just now", ErrForeignCluster)
	case hub[0].Lease != int64(g.lease):
		return ErrIDTaken
	}
	return nil // it was an answer that got lost
}

// release ends the lease, and so deletes the key.
func (g *registration) release(ctx context.Context) error {
	if g.lease == 0 {
		return nil
	}
	client, err := g.r.dialer.get(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.r.config.DialTimeout)
	defer cancel()
	if _, err := client.Revoke(ctx, g.lease); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("end lease: %w", failure(err))
	}
	return nil
}
