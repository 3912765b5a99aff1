package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// deadFor is how long a declaration stands. Longer than any process sleeps through; ids are never reused.
const deadFor = 24 * time.Hour

// death is what stands at the key of a hub that was declared dead.
type death struct {
	By string    `json:"by"` // the hub that declared it
	At time.Time `json:"at"`
}

// DeclareDead declares the hub id dead in the name of the hub by: of all who try, one wins, and may say so to the
// outside. It is for a hub that is no longer listed (else ErrStillRegistered) and that no hub reaches any more;
// it can't register again. Who has won is told so again when it asks again, since an answer may get lost.
func (r *Registry) DeclareDead(ctx context.Context, id, by string) (won bool, err error) {
	if !validID(id) || !validID(by) || id == by {
		return false, fmt.Errorf("declare hub dead: ids are %.64q and %.64q, want those of two hubs", id, by)
	}
	won, err = r.declareDead(ctx, id, by)
	if err != nil {
		return false, fmt.Errorf("declare hub dead: %w", err)
	}
	return won, nil
}

func (r *Registry) declareDead(ctx context.Context, id, by string) (won bool, err error) {
	value, err := json.Marshal(death{By: by, At: time.Now().UTC()})
	if err != nil {
		return false, err
	}
	if _, _, err := r.meet(ctx); err != nil {
		return false, err
	}
	client, err := r.dialer.get(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.config.DialTimeout)
	defer cancel()
	lease, err := client.Grant(ctx, int64(deadFor/time.Second))
	if err != nil {
		return false, fmt.Errorf("get lease: %w", failure(err))
	}
	answer, err := client.Txn(ctx).
		If(
			clientv3.Compare(clientv3.Value(r.keys.cluster), "=", r.ClusterID()),
			absent(r.keys.hubs+id),
			absent(r.keys.dead+id),
		).
		Then(clientv3.OpPut(r.keys.dead+id, string(value), clientv3.WithLease(lease.ID)), clientv3.OpDelete(r.keys.seen+id)).
		Else(clientv3.OpGet(r.keys.dead+id), clientv3.OpGet(r.keys.hubs+id, clientv3.WithKeysOnly())).
		Commit()
	if err != nil {
		return false, fmt.Errorf("create key: %w", failure(err))
	}
	if answer.Succeeded {
		r.log.Info("hub declared dead", "id", id, "by", by)
		return true, nil
	}
	_, _ = client.Revoke(ctx, lease.ID) // holds nothing; if that fails it ends in a day
	dead, hub := answer.Responses[0].GetResponseRange().Kvs, answer.Responses[1].GetResponseRange().Kvs
	switch {
	case len(dead) > 0:
		var winner death
		err := json.Unmarshal(dead[0].Value, &winner)
		return err == nil && winner.By == by, nil
	case len(hub) > 0:
		return false, ErrStillRegistered
	}
	return false, fmt.Errorf("%w: its id has changed just now", ErrForeignCluster)
}
