package discovery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// registration keeps a hub listed.
//
// Problem: etcd can lose the hub's key in many ways. The lease ends while etcd can't be reached or
// the process sleeps, an operator deletes the key, or etcd loses its data. And the effect of a
// request without an answer is unknown.
//
// Invariants:
//
//   - At most one lease of the key and one of the mark may be alive.
//   - The key is created, never overwritten.
//   - A key under the registration's own lease is its own, so a repeated request does no harm.
//   - A transaction that creates the key also writes the mark.
//
// The mark (<prefix>/seen/<id>) is for hubs that start. If etcd hangs or can't be reached for
// longer than LeaseTTL, the leases of all hubs end at once. Then a hub that starts finds no key,
// although all hubs live, until each hub has noticed and registered again. But it finds the marks,
// because markTTL is far longer than an expected outage. A mark without a key means that the hub
// was killed or has lost its lease (Snapshot.Lapsed).
//
// Outline: ensureListed restores the leases and the keys from any state and may be called at any
// time. run calls it at each third of the lease, sooner after a failure, and when the follower saw
// a change of the keys (requestCheck).
type registration struct {
	// Fixed at newRegistration.
	r      *Registry
	id     string          // of the hub
	value  string          // of the key and of the mark: the Member as JSON
	checks chan struct{}   // asks run to check the key; room for a single request
	ctx    context.Context // done when the registration or the Registry ends
	cancel context.CancelFunc
	done   chan struct{} // closed when run has given up the fields below

	// Owned by Register, then by run, and after done by Deregister.
	keeper  keeper
	key     lease     // of the key; short, so that a killed hub is not listed for long
	mark    lease     // of the mark
	markDue time.Time // time of the next renewal of the mark's lease; zero: now
	claimed bool      // the key existed under the lease of this registration, at the last check
}

// lease is a lease of a registration.
type lease struct {
	id  clientv3.LeaseID // 0: there is no lease that may be alive
	ttl time.Duration    // granted by etcd; before the grant, the requested value
}

// markTTL is how long the mark of a hub stays after its last renewal. In a longer outage of the
// hubs' connections to etcd, the marks end as well. Marks of killed hubs are deleted sooner: see
// Registry.StrikeOff.
const markTTL = time.Hour

// errLeaseLost: etcd does not know the lease, so its key is gone.
var errLeaseLost = errors.New("lease is lost")

func newRegistration(r *Registry, id, value string) *registration {
	ctx, cancel := context.WithCancel(r.ctx)
	return &registration{
		r: r, id: id, value: value,
		checks: make(chan struct{}, 1), ctx: ctx, cancel: cancel, done: make(chan struct{}),
		keeper: keeper{dialer: r.dialer},
		key:    lease{ttl: r.config.LeaseTTL},
		mark:   lease{ttl: markTTL},
	}
}

// requestCheck asks run to check the key. It never blocks and is safe for concurrent use.
func (g *registration) requestCheck() {
	select {
	case g.checks <- struct{}{}:
	default: // a check is requested already
	}
}

// registerFirst registers the hub for the first time. It retries until ctx is done or an error is
// final. It returns ErrClosed if Deregister or Close was called meanwhile.
func (g *registration) registerFirst(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.ctx, cancel)()
	var retry backoff
	var last error // of the last attempt that ctx did not interrupt
	for {
		err := g.ensureListed(ctx)
		if err == nil {
			return nil
		}
		g.r.metrics.countRegistration(err)
		if ctx.Err() == nil || last == nil {
			last = err
		}
		again := !isFinal(err) && retry.waitNext(ctx)
		switch {
		case again:
		case g.ctx.Err() != nil:
			return ErrClosed
		case ctx.Err() != nil:
			return fmt.Errorf("%w; last: %w", ctx.Err(), last)
		default:
			_ = g.endLeases(ctx) // after a failure, the leases end by themselves
			return err
		}
	}
}

// endUnstarted ends a registration whose run was never started.
func (g *registration) endUnstarted() {
	g.cancel()
	g.keeper.hangUp()
	close(g.done)
}

// run keeps the hub listed.
func (g *registration) run() {
	defer close(g.done)
	defer g.keeper.hangUp()
	var retry backoff
	var failed causes // of the failures since the last success
	spared := false   // an outdated token was not counted as a failure since the last success
	wait := g.key.ttl / 3
	for g.waitForCheck(wait) {
		before := g.key.id
		err := g.ensureListed(g.ctx)
		switch {
		case err == nil:
			if failed.hasFailures() || g.key.id != before {
				g.r.log.Info("hub registered again", "id", g.id, "new_lease", g.key.id != before)
			}
			retry.reset()
			failed.reset()
			spared = false
			wait = g.key.ttl / 3
			g.deleteStruckMarks(g.ctx)
			continue
		case g.ctx.Err() != nil:
			return
		}
		if !g.claimed {
			g.r.metrics.countRegistration(err)
		}
		if errors.Is(err, ErrDeclaredDead) {
			g.r.log.Error("hub was declared dead", "id", g.id)
			g.r.markDead()
			return
		}
		if isOutdatedToken(err) && !spared {
			spared = true // the next attempt logs in again
		} else if unlogged, logIt := failed.countFailure(err); logIt {
			g.r.log.Warn("hub can't be kept registered; retrying",
				"id", g.id, "error", err, "repeats", unlogged)
		}
		wait = min(retry.nextDelay(), g.key.ttl/3)
	}
}

// waitForCheck waits for d or for a request. It returns false if the registration ends.
func (g *registration) waitForCheck(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-g.ctx.Done():
		return false
	case <-g.checks:
		g.claimed = false
	case <-timer.C:
	}
	return true
}

// ensureListed renews the leases, and creates the key and the mark if they are missing. After nil
// the hub is listed.
func (g *registration) ensureListed(ctx context.Context) error {
	if err := g.keepLease(ctx, &g.key); err != nil {
		return err
	}
	// If the key is lost, it is created again even though the lease of the mark can't be renewed.
	if err := g.keepMark(ctx); err != nil && g.claimed {
		return err
	}
	if g.claimed {
		return nil
	}
	if _, _, err := g.r.readInCluster(ctx); err != nil {
		return err
	}
	for _, l := range []*lease{&g.key, &g.mark} {
		if err := g.grantLease(ctx, l); err != nil {
			return err
		}
	}
	if err := g.createKeys(ctx); err != nil {
		return err
	}
	g.claimed = true
	return nil
}

// keepLease renews a lease, if there is one. It forgets a lease that etcd has lost.
func (g *registration) keepLease(ctx context.Context, l *lease) error {
	if l.id == 0 {
		return nil
	}
	// A renewal begins after a third of the key's lease and may take a quarter of it. So if two
	// members of etcd hang, there is time to ask a third.
	err := g.keeper.renewLease(ctx, l.id, min(g.key.ttl/4, g.r.config.DialTimeout))
	if errors.Is(err, errLeaseLost) {
		l.id, g.claimed = 0, false
		return nil
	}
	return err
}

// keepMark renews the lease of the mark after a quarter of its time, which costs etcd little.
func (g *registration) keepMark(ctx context.Context) error {
	if time.Now().Before(g.markDue) {
		return nil
	}
	err := g.keepLease(ctx, &g.mark)
	if err == nil {
		g.markDue = time.Now().Add(g.mark.ttl / 4)
	}
	return err
}

// grantLease gets a lease from etcd, unless there is one.
func (g *registration) grantLease(ctx context.Context, l *lease) error {
	if l.id != 0 {
		return nil
	}
	client, err := g.r.dialer.getClient(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.r.config.DialTimeout)
	defer cancel()
	granted, err := client.Grant(ctx, int64(l.ttl/time.Second))
	if err != nil {
		return fmt.Errorf("get lease: %w", translateError(err))
	}
	l.id, l.ttl = granted.ID, time.Duration(granted.TTL)*time.Second
	return nil
}

// createKeys creates the key and the mark under their leases, if the cluster is ours and the hub
// was not declared dead. If the key exists and is ours, it only writes the mark again.
func (g *registration) createKeys(ctx context.Context) error {
	client, err := g.r.dialer.getClient(ctx)
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
			keyAbsent(keys.hubs+g.id),
			keyAbsent(keys.dead+g.id),
		).
		Then(write, mark).
		Else(
			clientv3.OpGet(keys.dead+g.id), clientv3.OpGet(keys.hubs+g.id),
			clientv3.OpTxn([]clientv3.Cmp{ours}, []clientv3.Op{mark}, nil),
		).
		Commit()
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		g.markDue = time.Time{} // the next renewals show which lease is lost
		return errLeaseLost
	case err != nil:
		return fmt.Errorf("create key: %w", translateError(err))
	case answer.Succeeded:
		g.r.metrics.countRegistration(nil)
		return nil
	}
	dead := answer.Responses[0].GetResponseRange().Kvs
	hub := answer.Responses[1].GetResponseRange().Kvs
	switch {
	case len(dead) > 0:
		return ErrDeclaredDead
	case len(hub) == 0:
		return fmt.Errorf("%w: its id has changed just now", ErrForeignCluster)
	case hub[0].Lease != int64(g.key.id):
		return ErrIDTaken
	}
	return nil // an earlier call created the key, and its answer got lost
}

// endLeases ends the leases, which deletes the mark and then the key. In the opposite order, a hub
// that starts in between would look for this hub.
func (g *registration) endLeases(ctx context.Context) error {
	return errors.Join(g.revokeLease(ctx, g.mark), g.revokeLease(ctx, g.key))
}

func (g *registration) revokeLease(ctx context.Context, l lease) error {
	if l.id == 0 {
		return nil
	}
	client, err := g.r.dialer.getClient(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, g.r.config.DialTimeout)
	defer cancel()
	_, err = client.Revoke(ctx, l.id)
	if err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("end lease: %w", translateError(err))
	}
	return nil
}
