package discovery

import (
	"log/slog"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxKeys is the limit of keys that are read below a prefix: the number of hubs that the hello
// between hubs can name. With maxMember it bounds the memory that any writer to etcd can make a hub
// use.
const maxKeys = 4096

// memberSet holds the Members below a prefix of etcd. It is owned by the follower.
type memberSet struct {
	// Fixed at newMemberSet.
	log    *slog.Logger
	prefix string

	members map[string]Member // by id; nil before the first read; watchers share it
	strange map[string]bool   // keys that can't be decoded; each was logged
	beyond  int64             // number of keys that are ignored because of maxKeys
}

func newMemberSet(log *slog.Logger, prefix string) *memberSet {
	return &memberSet{log: log, prefix: prefix, strange: make(map[string]bool)}
}

// readOp is a read of all keys, up to maxKeys.
func (s *memberSet) readOp() clientv3.Op {
	return clientv3.OpGet(s.prefix, clientv3.WithPrefix(), clientv3.WithLimit(maxKeys))
}

// ownsKey reports whether a key is below the prefix.
func (s *memberSet) ownsKey(key string) bool { return strings.HasPrefix(key, s.prefix) }

// idOf returns the id in a key below the prefix.
func (s *memberSet) idOf(key string) string { return strings.TrimPrefix(key, s.prefix) }

// hasID reports whether etcd has a key for the id, even if the key can't be decoded.
func (s *memberSet) hasID(id string) bool {
	_, ok := s.members[id]
	return ok || s.strange[s.prefix+id]
}

// isKept reports whether a key is exempt from maxKeys: its Member is in the set already, or it is
// the key of this hub, whose id is self.
func (s *memberSet) isKept(key, self string) bool {
	_, ok := s.members[s.idOf(key)]
	return ok || s.idOf(key) == self
}

// unreadKeys returns the keys exempt from maxKeys that readOp may have cut off. found is the result
// of readOp.
func (s *memberSet) unreadKeys(found *pb.RangeResponse, self string) (keys []string) {
	if found.GetCount() <= int64(len(found.GetKvs())) {
		return nil
	}
	last := string(found.GetKvs()[len(found.GetKvs())-1].GetKey()) // etcd sorts the keys
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

// replaceAll replaces the content of the set by the keys that were read. count is the number of
// keys in etcd.
func (s *memberSet) replaceAll(read []*mvccpb.KeyValue, count int64, self string) {
	members, strange := make(map[string]Member), make(map[string]bool)
	for _, known := range []bool{true, false} {
		for _, kv := range read {
			if s.isKept(string(kv.Key), self) != known {
				continue
			}
			if !known && len(members)+len(strange) >= maxKeys {
				break
			}
			if m, ok := s.decodeKey(kv); ok {
				members[m.ID] = m
			} else {
				strange[string(kv.Key)] = true
			}
		}
	}
	s.members, s.strange, s.beyond = members, strange, 0
	s.noteIgnored(count - int64(len(members)+len(strange)))
}

// applyEvent applies a change of a key.
func (s *memberSet) applyEvent(e *mvccpb.Event, self string) {
	key := string(e.Kv.Key)
	id := s.idOf(key)
	if e.Type == mvccpb.Event_DELETE {
		delete(s.members, id)
		delete(s.strange, key)
		return
	}
	if !s.hasID(id) && id != self && len(s.members)+len(s.strange) >= maxKeys {
		s.noteIgnored(1)
		return
	}
	if m, ok := s.decodeKey(e.Kv); ok {
		s.members[id] = m
	} else {
		delete(s.members, id)
	}
}

// decodeKey decodes the value of a key. It logs a key that it can't decode, once.
func (s *memberSet) decodeKey(kv *mvccpb.KeyValue) (Member, bool) {
	key := string(kv.Key)
	m, err := decodeMember(s.idOf(key), kv.Value)
	if err == nil {
		delete(s.strange, key)
		return m, true
	}
	if !s.strange[key] {
		s.strange[key] = true
		s.log.Warn("key holds no valid hub; ignoring it", "key", key, "error", err)
	}
	return Member{}, false
}

// noteIgnored adds to the number of keys that are ignored because of maxKeys.
func (s *memberSet) noteIgnored(keys int64) {
	if keys > 0 && s.beyond == 0 {
		s.log.Error("etcd lists more hubs than are read; the rest is ignored",
			"prefix", s.prefix, "ignored", keys, "read", maxKeys)
	}
	s.beyond += keys
}

// countIgnored returns the number of ignored keys.
func (s *memberSet) countIgnored() int64 { return s.beyond + int64(len(s.strange)) }
