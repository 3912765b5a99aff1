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

// keeper renews a lease, one call for one answer. The client's own KeepAlive does it in the background and says only
// that it stopped, not whether the lease is lost or etcd away; its KeepAliveOnce opens a stream each time, for which
// a client with a password must log in anew. It belongs to one goroutine.
type keeper struct {
	dialer *dialer // static

	stream pb.Lease_LeaseKeepAliveClient // nil: none is open
	cancel context.CancelFunc            // ends stream
}

// renew asks etcd to keep the lease for another TTL. It returns errLeaseLost when etcd doesn't know it any more;
// after any other error it may be alive.
func (k *keeper) renew(ctx context.Context, lease clientv3.LeaseID, limit time.Duration) error {
	if k.stream == nil {
		client, err := k.dialer.get()
		if err != nil {
			return err
		}
		// Not under ctx, which is the call's: the stream serves many. The two guards below end it.
		streaming, cancel := context.WithCancel(clientv3.WithRequireLeader(client.Ctx()))
		k.cancel = cancel
		timer := time.AfterFunc(limit, cancel)
		stop := context.AfterFunc(ctx, cancel)
		k.stream, err = pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(streaming)
		stop()
		timer.Stop()
		if err != nil {
			k.hangUp()
			return fmt.Errorf("renew lease: %w", failure(err))
		}
	}
	timer := time.AfterFunc(limit, k.cancel)
	defer timer.Stop()
	defer context.AfterFunc(ctx, k.cancel)()
	answer, err := k.ask(lease)
	if err != nil {
		k.hangUp()
		return fmt.Errorf("renew lease: %w", failure(err))
	}
	if answer.TTL <= 0 {
		return errLeaseLost
	}
	return nil
}

func (k *keeper) ask(lease clientv3.LeaseID) (*pb.LeaseKeepAliveResponse, error) {
	err := k.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)})
	if err != nil && !errors.Is(err, io.EOF) { // after io.EOF, Recv says why
		return nil, err
	}
	return k.stream.Recv()
}

// hangUp ends the stream, if there is one.
func (k *keeper) hangUp() {
	if k.cancel != nil {
		k.cancel()
	}
	k.stream, k.cancel = nil, nil
}
