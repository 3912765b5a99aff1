package discovery

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base32"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	clusterIDBytes = 5 // 40 random bits: 8 characters
	maxClusterID   = 64
)

// newClusterID draws an id in the spelling of the hubs' ids: base32 in lower case (RFC 4648 §6), no padding.
func newClusterID() string {
	b := make([]byte, clusterIDBytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	return base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(b)
}

// ClusterID returns the id of the cluster, or "" until etcd has told it: it has when Register has returned nil or
// a Watcher has given its first Snapshot. It never changes after that.
func (r *Registry) ClusterID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cluster
}

// meet makes sure that etcd holds our cluster, and returns what the reads found, all of one revision.
//
// The first hub that finds no id in etcd draws one. A hub that knows the id, and finds none, puts it back: etcd
// lost its data, and the cluster goes on. But it never follows a change: two clusters that share one etcd by
// mistake, or an etcd that was mixed up, must not melt into one.
func (r *Registry) meet(ctx context.Context, reads ...clientv3.Op) (revision int64, found []*pb.ResponseOp, err error) {
	client, err := r.dialer.get(ctx)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.config.DialTimeout)
	defer cancel()
	reads = append([]clientv3.Op{clientv3.OpGet(r.keys.cluster)}, reads...)
	// First without a write: an etcd that is full, or that lets this user read only, refuses a transaction that might write.
	answer, err := client.Txn(ctx).Then(reads...).Commit()
	if err == nil && len(answer.Responses[0].GetResponseRange().Kvs) == 0 {
		answer, err = client.Txn(ctx).
			If(absent(r.keys.cluster)).
			Then(append([]clientv3.Op{clientv3.OpPut(r.keys.cluster, cmp.Or(r.ClusterID(), newClusterID()))}, reads...)...).
			Else(append([]clientv3.Op{clientv3.OpGet(r.keys.cluster)}, reads...)...).
			Commit()
		if err == nil {
			answer.Responses = answer.Responses[1:]
		}
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read cluster: %w", failure(err))
	}
	id := string(answer.Responses[0].GetResponseRange().Kvs[0].Value)
	if err := r.adopt(id); err != nil {
		return 0, nil, err
	}
	return answer.Header.Revision, answer.Responses[1:], nil
}

// adopt takes the id that etcd holds for ours, if we have none yet.
func (r *Registry) adopt(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cluster == "" && id != "" && len(id) <= maxClusterID && printable(id) {
		r.cluster = id
	}
	if id != r.cluster {
		return fmt.Errorf("%w: its id is %.64q, ours is %q", ErrForeignCluster, id, r.cluster)
	}
	return nil
}

// absent is a condition of a transaction: there is no such key.
func absent(key string) clientv3.Cmp { return clientv3.Compare(clientv3.CreateRevision(key), "=", 0) }
