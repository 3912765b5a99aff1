package discovery

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// follower keeps the Snapshot equal to the state in etcd.
//
// Problem: the follower must miss no change, and must notice a watch that fell silent. The Watch of
// etcd's client does not suffice: it reconnects a broken stream by itself and continues after the
// last revision that it saw, although etcd may have lost its data or been restored from a backup
// meanwhile.
//
// Invariants:
//
//   - A Snapshot is the whole state at a single revision, or such a state and all later changes
//     in order.
//   - A broken stream is never resumed.
//   - While etcd can't be reached, or holds a foreign cluster, the last Snapshot stays.
//
// Outline: readAll reads everything in a transaction. followChanges then watches the later changes
// until the stream breaks, falls silent or shows a state that only a new read can explain. Then run
// starts again with readAll.
type follower struct {
	r *Registry // fixed at newFollower

	// Owned by run.
	hubs     *memberSet // the keys of hubs
	seen     *memberSet // the marks of hubs
	revision int64      // of etcd, of hubs and seen
	began    loss       // why the outage began; 0: there is no outage
	causes   causes     // of the failures in this outage
	spared   bool       // an outdated token was not counted as a failure since the last answer
}

func newFollower(r *Registry) *follower {
	return &follower{
		r: r, hubs: newMemberSet(r.log, r.keys.hubs), seen: newMemberSet(r.log, r.keys.seen),
	}
}

// run follows etcd until the Registry is closed.
func (f *follower) run() {
	ctx := f.r.ctx
	defer f.r.freshness.markLost()
	var retry backoff
	for {
		err := f.readAll(ctx)
		if err == nil {
			err = f.followChanges(ctx, &retry)
		}
		if ctx.Err() != nil {
			return
		}
		f.noteLoss(err)
		if !retry.waitNext(ctx) {
			return
		}
	}
}

// readAll reads the whole state and shows it.
func (f *follower) readAll(ctx context.Context) error {
	revision, found, err := f.r.readInCluster(ctx, f.hubs.readOp(), f.seen.readOp())
	if err != nil {
		return err
	}
	for i, s := range []*memberSet{f.hubs, f.seen} {
		if err := f.loadMembers(ctx, s, found[i].GetResponseRange(), revision); err != nil {
			return err
		}
	}
	f.revision = revision
	f.publishSnapshot(f.r.freshness.staleFor())
	if self := f.r.ownRegistration(); self != nil {
		if !f.hubs.hasID(self.id) || !f.seen.hasID(self.id) {
			self.requestCheck()
		}
	}
	return nil
}

// readsAtOnce is the limit of keys that a transaction reads. etcd's own limit is 128.
const readsAtOnce = 100

// loadMembers fills a memberSet with the keys that were found. If the limit of keys cut some off,
// it first reads those of them that the set must keep.
func (f *follower) loadMembers(
	ctx context.Context, s *memberSet, found *pb.RangeResponse, revision int64,
) error {
	read, self := found.GetKvs(), f.selfID()
	for keys := range slices.Chunk(s.unreadKeys(found, self), readsAtOnce) {
		var each []clientv3.Op
		for _, key := range keys {
			each = append(each, clientv3.OpGet(key, clientv3.WithRev(revision)))
		}
		_, more, err := f.r.readInCluster(ctx, each...)
		if err != nil {
			return err
		}
		for _, m := range more {
			read = append(read, m.GetResponseRange().GetKvs()...)
		}
	}
	s.replaceAll(read, found.GetCount(), self)
	return nil
}

// selfID returns the id of the hub that this Registry registers, or "" if there is none.
func (f *follower) selfID() string {
	if self := f.r.ownRegistration(); self != nil {
		return self.id
	}
	return ""
}

// publishSnapshot shows the state to the watchers. stale is the length of the outage before it.
func (f *follower) publishSnapshot(stale time.Duration) {
	f.r.metrics.ignored.Set(float64(f.hubs.countIgnored() + f.seen.countIgnored()))
	lapsed := make(map[string]Member)
	for id, m := range f.seen.members {
		if !f.hubs.hasID(id) {
			lapsed[id] = m
		}
	}
	f.r.board.showSnapshot(Snapshot{
		Members: f.hubs.members, Lapsed: lapsed, Revision: f.revision, StaleFor: stale,
	})
}

// endOutage ends an outage. It is called when the watch has answered, not already after readAll: an
// etcd that allows reads and refuses the watch would fill the log.
func (f *follower) endOutage() {
	if f.began == 0 {
		return
	}
	f.r.metrics.resyncs[f.began].Inc()
	wasLogged := f.causes.hasFailures()
	defer func() { f.began, f.spared = 0, false; f.causes.reset() }()
	if !wasLogged {
		return
	}
	f.r.log.Info("etcd is back", "stale_for", f.r.freshness.staleFor(),
		"hubs", len(f.hubs.members), "revision", f.revision)
}

// noteLoss begins an outage, or continues it. The type causes selects the failures that are logged.
func (f *follower) noteLoss(err error) {
	f.r.freshness.markLost()
	l := lossOf(err)
	if f.began == 0 {
		f.began = l
	}
	if isOutdatedToken(err) && !f.spared {
		f.spared = true // the next attempt logs in again
		return
	}
	unlogged, logIt := f.causes.countFailure(err)
	if !logIt {
		return
	}
	level := f.r.log.Warn
	if l == lossForeign {
		level = f.r.log.Error
	}
	if f.hubs.members == nil {
		level("etcd can't be reached; retrying",
			"reason", l.String(), "error", err, "repeats", unlogged)
		return
	}
	level("etcd is lost; the last known hubs stay valid", "reason", l.String(), "error", err,
		"repeats", unlogged, "hubs", len(f.hubs.members))
}

// applyEvents applies the changes of some revisions and shows the result. After an error the caller
// must read everything again.
func (f *follower) applyEvents(events []*mvccpb.Event) error {
	changed, readUpTo := false, f.revision
	for _, e := range events {
		key := string(e.Kv.Key)
		switch {
		case e.Kv.ModRevision <= readUpTo:
			continue
		case f.hubs.ownsKey(key):
			if !changed {
				f.hubs.members = maps.Clone(f.hubs.members) // watchers read the old map
				changed = true
			}
			f.hubs.applyEvent(e, f.selfID())
			f.checkOwnKey(f.hubs, e)
		case f.seen.ownsKey(key):
			f.seen.applyEvent(e, f.selfID())
			f.checkOwnKey(f.seen, e)
			changed = changed || !f.hubs.hasID(f.seen.idOf(key))
		case key == f.r.keys.cluster:
			if e.Type == mvccpb.Event_DELETE || string(e.Kv.Value) != f.r.ClusterID() {
				return errClusterChanged
			}
		}
		f.revision = e.Kv.ModRevision
	}
	if changed {
		f.publishSnapshot(0)
	}
	return nil
}

// checkOwnKey asks the registration to check its keys if e changed the key or the mark of this hub.
func (f *follower) checkOwnKey(in *memberSet, e *mvccpb.Event) {
	self := f.r.ownRegistration()
	if self == nil || self.id != in.idOf(string(e.Kv.Key)) {
		return
	}
	if e.Type == mvccpb.Event_DELETE || string(e.Kv.Value) != self.value {
		self.requestCheck()
	}
}

// The follower asks the watch for its progress each heartbeatInterval, and replaces it after
// silenceLimit without an answer. Both are shares of LeaseTTL, so that a dead watch is replaced
// before the lease of a hub ends that the watch should have shown.
const (
	heartbeatShare = 10
	silenceShare   = 2
)

func (f *follower) heartbeatInterval() time.Duration { return f.r.config.LeaseTTL / heartbeatShare }
func (f *follower) silenceLimit() time.Duration      { return f.r.config.LeaseTTL / silenceShare }

// Errors with which the follower ends a stream.
var (
	errSilent         = errors.New("etcd did not answer")
	errClusterChanged = errors.New("cluster id changed")
)
