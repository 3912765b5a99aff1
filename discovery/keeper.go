package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// keeper renews leases. Each call waits for its own answer. etcd's client has two ways to renew,
// and neither suffices. KeepAlive works in the background; when it stops, it does not report
// whether the lease is lost or etcd can't be reached. KeepAliveOnce opens a stream for each
// renewal, and a client with a password must log in for each stream. A keeper is not safe for
// concurrent use.
type keeper struct {
	dialer *dialer // fixed at the start

	stream pb.Lease_LeaseKeepAliveClient // open for many calls; nil: none is open
	life   context.Context               // of stream; nil: none is open
	cancel context.CancelFunc            // ends life
}

// renewLease asks etcd to keep the lease for a further TTL. It returns errLeaseLost if etcd does
// not know the lease, and errSilent if etcd did not answer within limit. After any error but
// errLeaseLost, the lease may be alive.
func (k *keeper) renewLease(
	ctx context.Context, lease clientv3.LeaseID, limit time.Duration,
) error {
	client, err := k.dialer.getClient(ctx)
	if err != nil {
		return err
	}
	if k.life == nil {
		k.life, k.cancel = context.WithCancel(clientv3.WithRequireLeader(client.Ctx()))
	}
	silence := time.AfterFunc(limit, k.cancel)
	stay := context.AfterFunc(ctx, k.cancel)
	answer, err := k.sendRenewal(client, lease)
	late, left := !silence.Stop(), !stay()
	if err != nil || late || left {
		k.hangUp()
	}
	switch {
	case err == nil && answer.TTL <= 0:
		return errLeaseLost
	case err == nil:
		return nil
	case late && !left:
		err = errSilent // the stream's own error says only that it was cancelled
	}
	return fmt.Errorf("renew lease: %w", translateError(err))
}

// sendRenewal sends a renewal and waits for its answer. It opens the stream if none is open.
func (k *keeper) sendRenewal(
	client *clientv3.Client, lease clientv3.LeaseID,
) (answer *pb.LeaseKeepAliveResponse, err error) {
	if k.stream == nil {
		leases := pb.NewLeaseClient(client.ActiveConnection())
		if k.stream, err = leases.LeaseKeepAlive(k.life); err != nil {
			return nil, err
		}
	}
	err = k.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)})
	if err != nil && !errors.Is(err, io.EOF) { // after io.EOF, Recv returns the cause
		return nil, err
	}
	return k.stream.Recv()
}

// hangUp ends the stream, if there is one.
func (k *keeper) hangUp() {
	if k.cancel != nil {
		k.cancel()
	}
	k.stream, k.life, k.cancel = nil, nil, nil
}
