package discovery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// errCancelled: etcd ended the watch, and said why in its own words.
var errCancelled = errors.New("etcd cancelled the watch")

// stream watches from the revision that was synced on, until it breaks. It resets retry once the watch answers.
func (f *follower) stream(ctx context.Context, retry *backoff) error {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	silence := time.AfterFunc(f.silence(), func() { cancel(errSilent) })
	defer silence.Stop()
	var beats sync.WaitGroup
	defer beats.Wait()
	defer cancel(nil)

	watch, err := f.open(ctx)
	if err != nil {
		return broken(ctx, err)
	}
	beats.Go(func() { f.beat(ctx, watch) })
	for {
		answer, err := watch.Recv()
		if err != nil {
			return broken(ctx, err)
		}
		silence.Reset(f.silence())
		switch {
		case answer.CompactRevision != 0:
			return rpctypes.ErrCompacted
		case answer.Canceled:
			return fmt.Errorf("%w: %s", errCancelled, answer.CancelReason)
		}
		if err := f.apply(answer.Events); err != nil {
			return err
		}
		f.found()
		f.r.hearing.heard()
		if !answer.Created {
			retry.reset() // not before: a watch that is refused each time must not be asked for without pause
		}
	}
}

// open asks for all changes after f.revision, and for that of f.revision, which apply passes over: etcd tells no progress
// to a watch from a revision that is yet to come, and where hubs seldom come and go that would be silence.
func (f *follower) open(ctx context.Context) (pb.Watch_WatchClient, error) {
	client, err := f.r.dialer.get(ctx)
	if err != nil {
		return nil, err
	}
	// The many changes of one revision come in one message.
	watch, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx, grpc.MaxCallRecvMsgSize(math.MaxInt32))
	if err != nil {
		return nil, err
	}
	err = watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{
		CreateRequest: &pb.WatchCreateRequest{
			Key:            []byte(f.r.keys.root),
			RangeEnd:       []byte(clientv3.GetPrefixRangeEnd(f.r.keys.root)),
			StartRevision:  f.revision,
			ProgressNotify: true,
		},
	}})
	if errors.Is(err, io.EOF) { // Recv says why
		err = nil
	}
	return watch, err
}

// beat asks the watch for its progress until the stream ends: an answer means that nothing was missed up to then.
func (f *follower) beat(ctx context.Context, watch pb.Watch_WatchClient) {
	ticker := time.NewTicker(f.heartbeat())
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := watch.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{
			ProgressRequest: &pb.WatchProgressRequest{},
		}})
		if err != nil {
			return // Recv says why
		}
	}
}

// broken returns why a stream ended: our own reason, if we ended it.
func broken(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return fmt.Errorf("watch: %w", failure(err))
}

// loss says why etcd was lost. It is the metric label.
type loss uint8

const (
	lossBroken    loss = iota + 1 // the connection to etcd, or it can't be made
	lossSilent                    // no answer in time
	lossNoLeader                  // the member that was asked has lost the others
	lossCompacted                 // etcd has thrown away what came after our revision
	lossCancelled                 // etcd ended the watch
	lossForeign                   // another cluster is there
	lossRefused                   // the credentials are not good

	lossEnd
)

var losses = [lossEnd]string{
	lossBroken:    "broken",
	lossSilent:    "silent",
	lossNoLeader:  "no_leader",
	lossCompacted: "compacted",
	lossCancelled: "cancelled",
	lossForeign:   "foreign_cluster",
	lossRefused:   "refused",
}

// String returns the metric label.
func (l loss) String() string { return losses[l] }

// lossOf sorts an error of sync or stream.
func lossOf(err error) loss {
	switch {
	case errors.Is(err, errSilent), errors.Is(err, context.DeadlineExceeded):
		return lossSilent
	case errors.Is(err, rpctypes.ErrNoLeader):
		return lossNoLeader
	case errors.Is(err, rpctypes.ErrCompacted):
		return lossCompacted
	case errors.Is(err, errCancelled), errors.Is(err, rpctypes.ErrGRPCWatchCanceled):
		return lossCancelled
	case errors.Is(err, ErrForeignCluster), errors.Is(err, errClusterChanged):
		return lossForeign
	case errors.Is(err, ErrRefused):
		return lossRefused
	}
	return lossBroken
}
