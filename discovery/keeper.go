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
	life   context.Context               // of stream: it serves many calls. nil: none
	cancel context.CancelFunc            // ends life
}

// renew asks etcd to keep the lease for another TTL. It returns errLeaseLost when etcd doesn't know it any more, and
// errSilent when limit was over; after any other error than errLeaseLost the lease may be alive.
func (k *keeper) renew(ctx context.Context, lease clientv3.LeaseID, limit time.Duration) error {
	client, err := k.dialer.get(ctx)
	if err != nil {
		return err
	}
	if k.life == nil {
		k.life, k.cancel = context.WithCancel(clientv3.WithRequireLeader(client.Ctx()))
	}
	silence := time.AfterFunc(limit, k.cancel)
	stay := context.AfterFunc(ctx, k.cancel)
	answer, err := k.ask(client, lease)
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
		err = errSilent // all that the stream can say is that it was ended
	}
	return fmt.Errorf("renew lease: %w", failure(err))
}

func (k *keeper) ask(client *clientv3.Client, lease clientv3.LeaseID) (answer *pb.LeaseKeepAliveResponse, err error) {
	if k.stream == nil {
		if k.stream, err = pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(k.life); err != nil {
			return nil, err
		}
	}
	err = k.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(lease)})
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
	k.stream, k.life, k.cancel = nil, nil, nil
}
