package discovery

import (
	"context"
	"errors"
	"maps"
	"time"

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
	members  map[string]Member
	revision int64           // up to which members is true
	strange  map[string]bool // keys that can't be read, and that were logged
	beyond   int64           // keys that are ignored because there are too many
	began    loss            // why etcd was lost; 0: it is heard
	causes   causes          // of that, which were logged
	spared   bool            // an outdated token was passed over since the last answer
}

func newFollower(r *Registry) *follower {
	return &follower{r: r, strange: make(map[string]bool)}
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
	keys := &f.r.keys
	revision, found, err := f.r.meet(ctx, clientv3.OpGet(keys.hubs, clientv3.WithPrefix(), clientv3.WithLimit(maxKeys)))
	if err != nil {
		return err
	}
	members, strange := make(map[string]Member), make(map[string]bool)
	for _, kv := range found[0].GetResponseRange().Kvs {
		if m, ok := f.read(kv); ok {
			members[m.ID] = m
		} else {
			strange[string(kv.Key)] = true
		}
	}
	f.members, f.revision, f.strange, f.beyond = members, revision, strange, 0
	f.ignore(found[0].GetResponseRange().GetCount() - int64(len(found[0].GetResponseRange().Kvs)))
	f.r.board.show(Snapshot{Members: members, Revision: revision, StaleFor: f.r.hearing.staleFor()})
	if self := f.r.self(); self != nil {
		if _, ok := members[self.id]; !ok {
			self.suspect()
		}
	}
	return nil
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
	f.r.log.Info("etcd is back", "stale_for", f.r.hearing.staleFor(), "hubs", len(f.members), "revision", f.revision)
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
	if f.members == nil {
		level("etcd can't be reached; trying on", "reason", l.String(), "error", err, "repeats", unsaid)
		return
	}
	level("etcd is lost; the last known hubs stand", "reason", l.String(), "error", err, "repeats", unsaid, "hubs", len(f.members))
}

// maxKeys bounds the keys of hubs that are read, and so what anybody who writes to etcd can make a hub keep: as many
// hubs as a hello can tell of. Larger values than maxMember are not kept.
const maxKeys = 4096

// ignore notes that there are more keys than are read.
func (f *follower) ignore(keys int64) {
	if keys > 0 && f.beyond == 0 {
		f.r.log.Error("etcd lists more hubs than are read; the rest is ignored", "ignored", keys, "read", maxKeys)
	}
	f.beyond += keys
	f.r.metrics.ignored.Set(float64(f.beyond + int64(len(f.strange))))
}

// read decodes a hub's key, and logs once what it can't read.
func (f *follower) read(kv *mvccpb.KeyValue) (Member, bool) {
	key := string(kv.Key)
	id, _ := f.r.keys.hub(key)
	m, err := decodeMember(id, kv.Value)
	if err == nil {
		delete(f.strange, key)
		return m, true
	}
	if !f.strange[key] {
		f.strange[key] = true
		f.r.log.Warn("key is no hub; ignoring it", "key", key, "error", err)
	}
	return Member{}, false
}

// apply takes the changes of one or more revisions and shows the result. An error means that only a sync helps.
func (f *follower) apply(events []*mvccpb.Event) error {
	changed, synced := false, f.revision
	for _, e := range events {
		key := string(e.Kv.Key)
		switch id, isHub := f.r.keys.hub(key); {
		case e.Kv.ModRevision <= synced:
			continue
		case isHub:
			if !changed {
				f.members = maps.Clone(f.members) // what was shown is not ours any more
				changed = true
			}
			f.applyHub(id, e)
		case key == f.r.keys.cluster:
			if e.Type == mvccpb.Event_DELETE || string(e.Kv.Value) != f.r.ClusterID() {
				return errClusterChanged
			}
		}
		f.revision = e.Kv.ModRevision
	}
	if changed {
		f.r.board.show(Snapshot{Members: f.members, Revision: f.revision})
	}
	return nil
}

func (f *follower) applyHub(id string, e *mvccpb.Event) {
	deleted := e.Type == mvccpb.Event_DELETE
	if self := f.r.self(); self != nil && self.id == id && (deleted || string(e.Kv.Value) != self.value) {
		self.suspect()
	}
	if deleted {
		delete(f.members, id)
		delete(f.strange, string(e.Kv.Key))
		f.ignore(0)
		return
	}
	if _, known := f.members[id]; !known && len(f.members)+len(f.strange) >= maxKeys {
		f.ignore(1)
		return
	}
	if m, ok := f.read(e.Kv); ok {
		f.members[id] = m
	} else {
		delete(f.members, id)
	}
	f.ignore(0)
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
