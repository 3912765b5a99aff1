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

// errCancelled: etcd ended the watch; the text has etcd's reason.
var errCancelled = errors.New("etcd cancelled the watch")

// followChanges watches the changes after f.revision until the watch breaks. It resets retry when
// the watch answers.
func (f *follower) followChanges(ctx context.Context, retry *backoff) error {
	ctx, cancel := context.WithCancelCause(clientv3.WithRequireLeader(ctx))
	silence := time.AfterFunc(f.silenceLimit(), func() { cancel(errSilent) })
	defer silence.Stop()
	var beats sync.WaitGroup
	defer beats.Wait()
	defer cancel(nil)

	watch, err := f.openWatch(ctx)
	if err != nil {
		return streamError(ctx, err)
	}
	beats.Go(func() { f.requestProgress(ctx, watch) })
	for {
		answer, err := watch.Recv()
		if err != nil {
			return streamError(ctx, err)
		}
		silence.Reset(f.silenceLimit())
		switch {
		case answer.CompactRevision != 0:
			return rpctypes.ErrCompacted
		case answer.Canceled:
			return fmt.Errorf("%w: %s", errCancelled, answer.CancelReason)
		}
		if err := f.applyEvents(answer.Events); err != nil {
			return err
		}
		f.endOutage()
		f.r.freshness.markAnswered()
		if !answer.Created {
			// Not already at Created: if etcd ends each watch at once, the retries need their
			// pauses.
			retry.reset()
		}
	}
}

// openWatch watches all changes from f.revision on; applyEvents skips those of f.revision itself. A
// watch from the next revision would get no progress until that revision exists, and look silent
// where hubs rarely change.
func (f *follower) openWatch(ctx context.Context) (pb.Watch_WatchClient, error) {
	client, err := f.r.dialer.getClient(ctx)
	if err != nil {
		return nil, err
	}
	// All changes of a revision come in a single message, which may be large.
	unlimited := grpc.MaxCallRecvMsgSize(math.MaxInt32)
	watch, err := pb.NewWatchClient(client.ActiveConnection()).Watch(ctx, unlimited)
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
	if errors.Is(err, io.EOF) { // Recv returns the cause
		err = nil
	}
	return watch, err
}

// requestProgress asks the watch for its progress at each heartbeat, until ctx is done. An answer
// proves that the watch has delivered all changes so far.
func (f *follower) requestProgress(ctx context.Context, watch pb.Watch_WatchClient) {
	ticker := time.NewTicker(f.heartbeatInterval())
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
			return // Recv returns the cause
		}
	}
}

// streamError returns the cause of the end of a stream: errSilent if the follower ended it,
// otherwise err.
func streamError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return fmt.Errorf("watch: %w", translateError(err))
}

// loss is the reason for an outage, and a metric label.
type loss uint8

const (
	lossBroken    loss = iota + 1 // the connection broke or can't be made
	lossSilent                    // no answer in time
	lossNoLeader                  // the member of etcd has lost its leader
	lossCompacted                 // etcd has deleted the changes after our revision
	lossCancelled                 // etcd ended the watch
	lossForeign                   // etcd holds a foreign cluster
	lossRefused                   // etcd refused the credentials

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

// lossOf returns the reason for an outage that an error of readAll or followChanges stands for.
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
