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
// Invariants: it has at most one lease of each kind that may be alive. The key is created, never
// overwritten. A key under its own lease is its own, so that asking twice does no harm. Whenever
// the key is created, the mark is written in the same transaction.
//
// The mark (<prefix>/seen/<id>) is for hubs that start. An etcd that hangs, or that no hub reaches,
// for longer than LeaseTTL ends the leases of all hubs at once. A hub that starts then finds no
// key, though all hubs live, until each has found out and registered again. It finds the marks:
// markTTL is far longer than an outage that is expected. A mark without a key says that the hub was
// killed, or lost its lease. (Snapshot.Lapsed)
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
	key     lease     // of the key; short, so that a hub that is gone is not listed for long
	mark    lease     // of the mark
	markDue time.Time // when the lease of the mark is to be renewed
	claimed bool      // the key was seen under its lease, and nothing has happened since
}

// lease is one lease of a registration.
type lease struct {
	id  clientv3.LeaseID // 0: none that may be alive
	ttl time.Duration    // as etcd granted it; before that as it is asked for
}

// markTTL is how long the mark of a hub stands after its last renewal. An outage of etcd that lasts
// longer, and in which etcd itself runs on, leaves nothing of the hubs. Marks of hubs that were
// killed go sooner: see Registry.StrikeOff.
const markTTL = time.Hour

// errLeaseLost: etcd doesn't know the lease any more, so its key is gone.
var errLeaseLost = errors.New("lease is lost")

func newRegistration(r *Registry, id, value string) *registration {
	ctx, cancel := context.WithCancel(r.ctx)
	return &registration{
		r: r, id: id, value: value,
		poke: make(chan struct{}, 1), ctx: ctx, cancel: cancel, done: make(chan struct{}),
		keeper: keeper{dialer: r.dialer},
		key:    lease{ttl: r.config.LeaseTTL},
		mark:   lease{ttl: markTTL},
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
	wait := g.key.ttl / 3
	for g.sleep(wait) {
		before := g.key.id
		err := g.ensure(g.ctx)
		switch {
		case err == nil:
			if failed.any() || g.key.id != before {
				g.r.log.Info("hub registered again", "id", g.id, "new_lease", g.key.id != before)
			}
			retry.reset()
			failed.clear()
			spared = false
			wait = g.key.ttl / 3
			g.strikeOff(g.ctx)
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
		wait = min(retry.delay(), g.key.ttl/3)
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

// ensure returns nil when the hub is listed and marked, under leases that are alive.
func (g *registration) ensure(ctx context.Context) error {
	if err := g.renew(ctx, &g.key); err != nil {
		return err
	}
	// The key does not wait for the mark: a lost key is written again all the same.
	if err := g.renewMark(ctx); err != nil && g.claimed {
		return err
	}
	if g.claimed {
		return nil
	}
	if _, _, err := g.r.meet(ctx); err != nil {
		return err
	}
	for _, l := range []*lease{&g.key, &g.mark} {
		if err := g.grant(ctx, l); err != nil {
			return err
		}
	}
	if err := g.claim(ctx); err != nil {
		return err
	}
	g.claimed = true
	return nil
}

// renew has a lease last on, if there is one. A lease that etcd has lost is given up.
func (g *registration) renew(ctx context.Context, l *lease) error {
	if l.id == 0 {
		return nil
	}
	// After a third of the key's lease, for a quarter of it: when the member of etcd that is asked
	// hangs, and the next one too, there is time to ask a third.
	err := g.keeper.renew(ctx, l.id, min(g.key.ttl/4, g.r.config.DialTimeout))
	if errors.Is(err, errLeaseLost) {
		l.id, g.claimed = 0, false
		return nil
	}
	return err
}

// renewMark renews the lease of the mark when a quarter of it has passed, so that etcd has little to do for it.
func (g *registration) renewMark(ctx context.Context) error {
	if time.Now().Before(g.markDue) {
		return nil
	}
	err := g.renew(ctx, &g.mark)
	if err == nil {
		g.markDue = time.Now().Add(g.mark.ttl / 4)
	}
	return err
}

// grant gets a lease, unless there is one.
func (g *registration) grant(ctx context.Context, l *lease) error {
	if l.id != 0 {
		return nil
	}
	client, err := g.r.dialer.get(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.r.config.DialTimeout)
	defer cancel()
	granted, err := client.Grant(ctx, int64(l.ttl/time.Second))
	if err != nil {
		return fmt.Errorf("get lease: %w", failure(err))
	}
	l.id, l.ttl = granted.ID, time.Duration(granted.TTL)*time.Second
	return nil
}

// claim creates the key and the mark under their leases, in the right cluster, unless the hub was
// declared dead. Where the key is there already, and is ours, it writes the mark again.
func (g *registration) claim(ctx context.Context) error {
	client, err := g.r.dialer.get(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.r.config.DialTimeout)
	defer cancel()
	keys, cluster := &g.r.keys, g.r.ClusterID()
	write := clientv3.OpPut(keys.hubs+g.id, g.value, clientv3.WithLease(g.key.id))
	mark := clientv3.OpPut(keys.seen+g.id, g.value, clientv3.WithLease(g.mark.id))
	ours := clientv3.Compare(clientv3.LeaseValue(keys.hubs+g.id), "=", g.key.id)
	answer, err := client.Txn(ctx).
		If(
			clientv3.Compare(clientv3.Value(keys.cluster), "=", cluster),
			absent(keys.hubs+g.id),
			absent(keys.dead+g.id),
		).
		Then(write, mark).
		Else(
			clientv3.OpGet(keys.dead+g.id), clientv3.OpGet(keys.hubs+g.id),
			clientv3.OpTxn([]clientv3.Cmp{ours}, []clientv3.Op{mark}, nil),
		).
		Commit()
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		g.markDue = time.Time{} // the next renewals tell which
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
	case hub[0].Lease != int64(g.key.id):
		return ErrIDTaken
	}
	return nil // it was an answer that got lost
}

// release ends the leases, and so deletes the mark and the key: in this order, or a hub that starts
// would look for this one.
func (g *registration) release(ctx context.Context) error {
	return errors.Join(g.revoke(ctx, g.mark), g.revoke(ctx, g.key))
}

func (g *registration) revoke(ctx context.Context, l lease) error {
	if l.id == 0 {
		return nil
	}
	client, err := g.r.dialer.get(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.r.config.DialTimeout)
	defer cancel()
	if _, err := client.Revoke(ctx, l.id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("end lease: %w", failure(err))
	}
	return nil
}
