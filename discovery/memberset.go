package discovery

import (
	"log/slog"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxKeys bounds the keys below one prefix that are read, and so what anybody who writes to etcd
// can make a hub keep: as many hubs as a hello can tell of. Larger values than maxMember are not
// kept.
const maxKeys = 4096

// shelf is what stands below one prefix of etcd: Members by their ids. It belongs to the follower.
type shelf struct {
	// Static.
	log    *slog.Logger
	prefix string

	members map[string]Member // nil before the first load
	strange map[string]bool   // keys that can't be read, and that were logged
	beyond  int64             // keys that are ignored because there are too many
}

func newShelf(log *slog.Logger, prefix string) *shelf {
	return &shelf{log: log, prefix: prefix, strange: make(map[string]bool)}
}

// all reads every key, up to the cap.
func (s *shelf) all() clientv3.Op {
	return clientv3.OpGet(s.prefix, clientv3.WithPrefix(), clientv3.WithLimit(maxKeys))
}

// holds reports whether a key is one of the shelf's.
func (s *shelf) holds(key string) bool { return strings.HasPrefix(key, s.prefix) }

// id returns the id in a key of the shelf.
func (s *shelf) id(key string) string { return strings.TrimPrefix(key, s.prefix) }

// has reports whether there is a key for the id, also one that can't be read.
func (s *shelf) has(id string) bool {
	_, ok := s.members[id]
	return ok || s.strange[s.prefix+id]
}

// known reports whether a key is kept however many there are: those that were read before, and this
// hub's own.
func (s *shelf) known(key, self string) bool {
	_, ok := s.members[s.id(key)]
	return ok || s.id(key) == self
}

// missing returns the keys that are kept in any case, when all has found more than it read: some of
// them may stand behind the cap.
func (s *shelf) missing(found *pb.RangeResponse, self string) (keys []string) {
	if found.GetCount() <= int64(len(found.GetKvs())) {
		return nil
	}
	last := string(found.GetKvs()[len(found.GetKvs())-1].GetKey()) // they come by name
	for id := range s.members {
		if key := s.prefix + id; key > last && id != self {
			keys = append(keys, key)
		}
	}
	if key := s.prefix + self; self != "" && key > last {
		keys = append(keys, key)
	}
	return keys
}

// load takes the keys that were read, in place of what there was. There are count keys in etcd.
func (s *shelf) load(read []*mvccpb.KeyValue, count int64, self string) {
	members, strange := make(map[string]Member), make(map[string]bool)
	for _, known := range []bool{true, false} {
		for _, kv := range read {
			if s.known(string(kv.Key), self) != known {
				continue
			}
			if !known && len(members)+len(strange) >= maxKeys {
				break
			}
			if m, ok := s.read(kv); ok {
				members[m.ID] = m
			} else {
				strange[string(kv.Key)] = true
			}
		}
	}
	s.members, s.strange, s.beyond = members, strange, 0
	s.ignore(count - int64(len(members)+len(strange)))
}

// apply takes a change of a key.
func (s *shelf) apply(e *mvccpb.Event, self string) {
	key := string(e.Kv.Key)
	id := s.id(key)
	if e.Type == mvccpb.Event_DELETE {
		delete(s.members, id)
		delete(s.strange, key)
		return
	}
	if !s.has(id) && id != self && len(s.members)+len(s.strange) >= maxKeys {
		s.ignore(1)
		return
	}
	if m, ok := s.read(e.Kv); ok {
		s.members[id] = m
	} else {
		delete(s.members, id)
	}
}

// read decodes a key, and logs once what it can't read.
func (s *shelf) read(kv *mvccpb.KeyValue) (Member, bool) {
	key := string(kv.Key)
	m, err := decodeMember(s.id(key), kv.Value)
	if err == nil {
		delete(s.strange, key)
		return m, true
	}
	if !s.strange[key] {
		s.strange[key] = true
		s.log.Warn("key is no hub; ignoring it", "key", key, "error", err)
	}
	return Member{}, false
}

// ignore notes that there are more keys than are read.
func (s *shelf) ignore(keys int64) {
	if keys > 0 && s.beyond == 0 {
		s.log.Error("etcd lists more hubs than are read; the rest is ignored", "prefix", s.prefix, "ignored", keys, "read", maxKeys)
	}
	s.beyond += keys
}

// ignored returns how many keys are ignored.
func (s *shelf) ignored() int64 { return s.beyond + int64(len(s.strange)) }
