package discovery

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// strikesKept bounds the marks that one transaction deletes; etcd takes 128 at once.
const strikesKept = 100

// StrikeOff has the mark of a lapsed hub deleted, because the hub is gone: the caller knows that it
// reaches no hub of that id. Then hubs that start look for it no more. It only takes a note, and
// never waits: the registration carries it out at its next renewal, unless the hub is listed again
// by then or another hub was quicker. What fails, or is too much at once, is forgotten; the caller
// may say it again.
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

// takeStruck returns the ids that were noted and are still lapsed, and forgets them.
func (r *Registry) takeStruck() (ids []string) {
	r.mu.Lock()
	struck := r.struck
	r.struck = nil
	r.mu.Unlock()
	if len(struck) == 0 {
		return nil
	}
	lapsed := r.board.lapsed()
	for id := range struck {
		if _, ok := lapsed[id]; ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// strikeOff deletes the marks that StrikeOff has noted, each only if its hub is not listed.
func (g *registration) strikeOff(ctx context.Context) {
	ids := g.r.takeStruck()
	if len(ids) == 0 {
		return
	}
	client, err := g.r.dialer.get(ctx)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, g.r.config.DialTimeout)
	defer cancel()
	keys := &g.r.keys
	var each []clientv3.Op
	for _, id := range ids {
		unlisted := []clientv3.Cmp{absent(keys.hubs + id)}
		each = append(each, clientv3.OpTxn(unlisted, []clientv3.Op{clientv3.OpDelete(keys.seen + id)}, nil))
	}
	if _, err := client.Txn(ctx).Then(each...).Commit(); err != nil {
		g.r.log.Debug("marks of hubs that are gone can't be deleted", "hubs", ids, "error", failure(err))
	}
}
