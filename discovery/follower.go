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

// follower keeps the Snapshot true to etcd.
//
// Problem: the news of a watch must have no gap, and a watch that went silent must be noticed. The client's own
// Watch mends a broken stream by itself and goes on after the last revision it saw; etcd may have been emptied, or
// set back to a backup, in between.
//
// Invariants: what is shown is the whole state at one revision, or that and every later change in order. A stream
// that breaks is never resumed. While etcd is away, or holds another cluster, the last Snapshot stands.
//
// Outline: sync reads everything in one transaction; stream watches what changes after it, until the stream breaks, falls silent, or something is odd; then it all begins again.
type follower struct {
	r *Registry // static

	// Owned by run.
	hubs     *shelf // the keys of hubs
	seen     *shelf // their marks
	revision int64  // up to which both are true
	began    loss   // why etcd was lost; 0: it is heard
	causes   causes // of that, which were logged
	spared   bool   // an outdated token was passed over since the last answer
}

func newFollower(r *Registry) *follower {
	return &follower{r: r, hubs: newShelf(r.log, r.keys.hubs), seen: newShelf(r.log, r.keys.seen)}
}

// run follows etcd until the Registry is closed.
func (f *follower) run() {
	ctx := f.r.ctx
	defer f.r.hearing.lost()
	var retry backoff
	for {
		err := f.sync(ctx)
		if err == nil {
			err = f.stream(ctx, &retry)
		}
		if ctx.Err() != nil {
			return
		}
		f.lost(err)
		if !retry.wait(ctx) {
			return
		}
	}
}

// sync reads the whole state and shows it.
func (f *follower) sync(ctx context.Context) error {
	revision, found, err := f.r.meet(ctx, f.hubs.all(), f.seen.all())
	if err != nil {
		return err
	}
	for i, s := range []*shelf{f.hubs, f.seen} {
		if err := f.load(ctx, s, found[i].GetResponseRange(), revision); err != nil {
			return err
		}
	}
	f.revision = revision
	f.show(f.r.hearing.staleFor())
	if self := f.r.self(); self != nil {
		if !f.hubs.has(self.id) || !f.seen.has(self.id) {
			self.suspect()
		}
	}
	return nil
}

// readsAtOnce bounds the keys that one transaction reads; etcd takes 128 at once.
const readsAtOnce = 100

// load gives a shelf what was found, and of the keys that were not read those that it keeps in any
// case.
func (f *follower) load(ctx context.Context, s *shelf, found *pb.RangeResponse, revision int64) error {
	read, self := found.GetKvs(), f.selfID()
	for keys := range slices.Chunk(s.missing(found, self), readsAtOnce) {
		var each []clientv3.Op
		for _, key := range keys {
			each = append(each, clientv3.OpGet(key, clientv3.WithRev(revision)))
		}
		_, more, err := f.r.meet(ctx, each...)
		if err != nil {
			return err
		}
		for _, m := range more {
			read = append(read, m.GetResponseRange().GetKvs()...)
		}
	}
	s.load(read, found.GetCount(), self)
	return nil
}

// selfID returns the id of the hub that this Registry lists, or is about to; empty: there is none.
func (f *follower) selfID() string {
	if self := f.r.self(); self != nil {
		return self.id
	}
	return ""
}

// show publishes what the keys say.
func (f *follower) show(stale time.Duration) {
	f.r.metrics.ignored.Set(float64(f.hubs.ignored() + f.seen.ignored()))
	lapsed := make(map[string]Member)
	for id, m := range f.seen.members {
		if !f.hubs.has(id) {
			lapsed[id] = m
		}
	}
	f.r.board.show(Snapshot{Members: f.hubs.members, Lapsed: lapsed, Revision: f.revision, StaleFor: stale})
}

// found ends an outage: etcd has told everything, and has begun to tell what changes. Not before: an etcd that
// allows the one and refuses the other would fill the log.
func (f *follower) found() {
	if f.began == 0 {
		return
	}
	f.r.metrics.resyncs[f.began].Inc()
	said := f.causes.any()
	defer func() { f.began, f.spared = 0, false; f.causes.clear() }()
	if !said {
		return
	}
	f.r.log.Info("etcd is back", "stale_for", f.r.hearing.staleFor(), "hubs", len(f.hubs.members), "revision", f.revision)
}

// lost begins an outage, or goes on with it. See causes for what is logged.
func (f *follower) lost(err error) {
	f.r.hearing.lost()
	l := lossOf(err)
	if f.began == 0 {
		f.began = l
	}
	if outdated(err) && !f.spared {
		f.spared = true // the next try mends it
		return
	}
	unsaid, say := f.causes.note(err)
	if !say {
		return
	}
	level := f.r.log.Warn
	if l == lossForeign {
		level = f.r.log.Error
	}
	if f.hubs.members == nil {
		level("etcd can't be reached; trying on", "reason", l.String(), "error", err, "repeats", unsaid)
		return
	}
	level("etcd is lost; the last known hubs stand", "reason", l.String(), "error", err, "repeats", unsaid, "hubs", len(f.hubs.members))
}

// apply takes the changes of one or more revisions and shows the result. An error means that only a sync helps.
func (f *follower) apply(events []*mvccpb.Event) error {
	changed, synced := false, f.revision
	for _, e := range events {
		key := string(e.Kv.Key)
		switch {
		case e.Kv.ModRevision <= synced:
			continue
		case f.hubs.holds(key):
			if !changed {
				f.hubs.members = maps.Clone(f.hubs.members) // what was shown is not ours any more
				changed = true
			}
			f.hubs.apply(e, f.selfID())
			f.guard(f.hubs, e)
		case f.seen.holds(key):
			f.seen.apply(e, f.selfID())
			f.guard(f.seen, e)
			changed = changed || !f.hubs.has(f.seen.id(key))
		case key == f.r.keys.cluster:
			if e.Type == mvccpb.Event_DELETE || string(e.Kv.Value) != f.r.ClusterID() {
				return errClusterChanged
			}
		}
		f.revision = e.Kv.ModRevision
	}
	if changed {
		f.show(0)
	}
	return nil
}

// guard has the registration look after its own keys.
func (f *follower) guard(in *shelf, e *mvccpb.Event) {
	self := f.r.self()
	if self == nil || self.id != in.id(string(e.Kv.Key)) {
		return
	}
	if e.Type == mvccpb.Event_DELETE || string(e.Kv.Value) != self.value {
		self.suspect()
	}
}

// A watch that says nothing for silence is given up. It is asked each heartbeat whether it lives: the shares of the
// lease let a watch be replaced before the hubs that it should tell of are gone.
const (
	heartbeatShare = 10
	silenceShare   = 2
)

func (f *follower) heartbeat() time.Duration { return f.r.config.LeaseTTL / heartbeatShare }
func (f *follower) silence() time.Duration   { return f.r.config.LeaseTTL / silenceShare }

// Errors that end a stream from our side.
var (
	errSilent         = errors.New("etcd did not answer")
	errClusterChanged = errors.New("cluster id changed")
)
