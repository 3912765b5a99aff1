package discovery

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// deadFor is how long a declaration stays in etcd: longer than any pause of a process. Ids are
// never reused.
const deadFor = 24 * time.Hour

// deadRecord is the value of the key of a hub that was declared dead.
type deadRecord struct {
	By string    `json:"by"` // id of the hub that declared it
	At time.Time `json:"at"` // in UTC
}

// DeclareDead declares the hub id dead in the name of the hub by. Use it for a hub that no hub can
// reach. The hub can't register again. If several hubs declare it dead, exactly one of them gets
// won; it may report the death outside the cluster. A winner that calls again, because an answer
// got lost, gets won again. DeclareDead returns ErrStillRegistered if the hub is listed.
func (r *Registry) DeclareDead(ctx context.Context, id, by string) (won bool, err error) {
	if !validID(id) || !validID(by) || id == by {
		return false,
			fmt.Errorf("declare hub dead: ids are %.64q and %.64q, want those of two hubs",
				id, by)
	}
	won, err = r.declareDead(ctx, id, by)
	if err != nil {
		return false, fmt.Errorf("declare hub dead: %w", err)
	}
	return won, nil
}

func (r *Registry) declareDead(ctx context.Context, id, by string) (won bool, err error) {
	value, err := json.Marshal(deadRecord{By: by, At: time.Now().UTC()})
	if err != nil {
		return false, err
	}
	if _, _, err := r.readInCluster(ctx); err != nil {
		return false, err
	}
	client, err := r.dialer.getClient(ctx)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.config.DialTimeout)
	defer cancel()
	lease, err := client.Grant(ctx, int64(deadFor/time.Second))
	if err != nil {
		return false, fmt.Errorf("get lease: %w", translateError(err))
	}
	answer, err := client.Txn(ctx).
		If(
			clientv3.Compare(clientv3.Value(r.keys.cluster), "=", r.ClusterID()),
			keyAbsent(r.keys.hubs+id),
			keyAbsent(r.keys.dead+id),
		).
		Then(
			clientv3.OpPut(r.keys.dead+id, string(value), clientv3.WithLease(lease.ID)),
			clientv3.OpDelete(r.keys.seen+id),
		).
		Else(
			clientv3.OpGet(r.keys.dead+id),
			clientv3.OpGet(r.keys.hubs+id, clientv3.WithKeysOnly()),
		).
		Commit()
	if err != nil {
		return false, fmt.Errorf("create key: %w", translateError(err))
	}
	if answer.Succeeded {
		r.log.Info("hub declared dead", "id", id, "by", by)
		return true, nil
	}
	_, _ = client.Revoke(ctx, lease.ID) // it has no key, and ends after deadFor in any case
	dead := answer.Responses[0].GetResponseRange().Kvs
	hub := answer.Responses[1].GetResponseRange().Kvs
	switch {
	case len(dead) > 0:
		var winner deadRecord
		err := json.Unmarshal(dead[0].Value, &winner)
		return err == nil && winner.By == by, nil
	case len(hub) > 0:
		return false, ErrStillRegistered
	}
	return false, fmt.Errorf("%w: its id has changed just now", ErrForeignCluster)
}
