package discovery

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// strikesKept is the limit of ids that wait, and so of marks that a transaction deletes. etcd's own
// limit is 128.
const strikesKept = 100

// StrikeOff requests the deletion of the mark of a lapsed hub, so that starting hubs no longer look
// for it. The caller must know that the hub is gone. StrikeOff never waits: the registration
// deletes the mark at its next renewal, unless the hub is listed again by then. A deletion that
// fails, and a request beyond 100 that wait, are dropped; the caller may call again.
func (r *Registry) StrikeOff(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.struck == nil {
		r.struck = make(map[string]struct{})
	}
	if len(r.struck) < strikesKept {
		r.struck[id] = struct{}{}
	}
}

// takeStruck removes the ids that StrikeOff noted, and returns those that are still lapsed.
func (r *Registry) takeStruck() (ids []string) {
	r.mu.Lock()
	struck := r.struck
	r.struck = nil
	r.mu.Unlock()
	if len(struck) == 0 {
		return nil
	}
	lapsed := r.board.lapsedMembers()
	for id := range struck {
		if _, ok := lapsed[id]; ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// deleteStruckMarks deletes the marks that StrikeOff noted, each only if its hub is not listed.
func (g *registration) deleteStruckMarks(ctx context.Context) {
	ids := g.r.takeStruck()
	if len(ids) == 0 {
		return
	}
	client, err := g.r.dialer.getClient(ctx)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, g.r.config.DialTimeout)
	defer cancel()
	keys := &g.r.keys
	var each []clientv3.Op
	for _, id := range ids {
		unlisted := []clientv3.Cmp{keyAbsent(keys.hubs + id)}
		strike := []clientv3.Op{clientv3.OpDelete(keys.seen + id)}
		each = append(each, clientv3.OpTxn(unlisted, strike, nil))
	}
	if _, err := client.Txn(ctx).Then(each...).Commit(); err != nil {
		g.r.log.Debug("marks of hubs that are gone can't be deleted",
			"hubs", ids, "error", translateError(err))
	}
}
