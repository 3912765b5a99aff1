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
	clusterIDBytes = 5  // 40 random bits: 8 characters
	maxClusterID   = 64 // bytes
)

// newClusterID draws an id in the form of the hubs' ids: base32 in lower case (RFC 4648 §6), no
// padding.
func newClusterID() string {
	b := make([]byte, clusterIDBytes)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the process instead
	encoding := base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	return encoding.EncodeToString(b)
}

// ClusterID returns the id of the cluster, or "" if it was not read from etcd yet. It is known once
// Register has returned nil or a Watcher has its first Snapshot, and never changes afterwards.
func (r *Registry) ClusterID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cluster
}

// readInCluster checks that etcd holds our cluster, and returns the results of the reads, all of
// the same revision.
//
// If etcd has no id, the hub writes the id that it knows: etcd lost its data, and the cluster goes
// on. A hub that knows no id draws it. A hub never accepts a changed id: two clusters that share an
// etcd by mistake, or hubs that were connected to the wrong etcd, must not merge.
func (r *Registry) readInCluster(
	ctx context.Context, reads ...clientv3.Op,
) (revision int64, found []*pb.ResponseOp, err error) {
	client, err := r.dialer.getClient(ctx)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, r.config.DialTimeout)
	defer cancel()
	reads = append([]clientv3.Op{clientv3.OpGet(r.keys.cluster)}, reads...)
	// The first transaction has no write: an etcd that is full, or that allows this user only to
	// read, refuses a transaction that may write.
	answer, err := client.Txn(ctx).Then(reads...).Commit()
	if err == nil && len(answer.Responses[0].GetResponseRange().Kvs) == 0 {
		id := cmp.Or(r.ClusterID(), newClusterID())
		write := append([]clientv3.Op{clientv3.OpPut(r.keys.cluster, id)}, reads...)
		readOnly := append([]clientv3.Op{clientv3.OpGet(r.keys.cluster)}, reads...)
		answer, err = client.Txn(ctx).
			If(keyAbsent(r.keys.cluster)).Then(write...).Else(readOnly...).Commit()
		if err == nil {
			answer.Responses = answer.Responses[1:]
		}
	}
	if err != nil {
		return 0, nil, fmt.Errorf("read cluster: %w", translateError(err))
	}
	id := string(answer.Responses[0].GetResponseRange().Kvs[0].Value)
	if err := r.adoptClusterID(id); err != nil {
		return 0, nil, err
	}
	return answer.Header.Revision, answer.Responses[1:], nil
}

// adoptClusterID takes the id in etcd as ours if ours is not known yet. It returns
// ErrForeignCluster if the two differ.
func (r *Registry) adoptClusterID(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cluster == "" && id != "" && len(id) <= maxClusterID && isPrintable(id) {
		r.cluster = id
	}
	if id != r.cluster {
		return fmt.Errorf("%w: its id is %.64q, ours is %q", ErrForeignCluster, id, r.cluster)
	}
	return nil
}

// keyAbsent is a condition of a transaction: the key does not exist.
func keyAbsent(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
}
