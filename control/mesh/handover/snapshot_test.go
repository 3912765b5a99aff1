package handover

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/permission"
	"github.com/connhub/connhub/internal/ranges"
)

// same compares states. A snapshot has not the parts of a message that each hub makes anew.
var same = cmp.Options{
	cmpopts.IgnoreUnexported(hub.Envelope{}), cmpopts.EquateEmpty(),
	cmp.AllowUnexported(permission.Grants{}),
}

// handOver returns a snapshot as it arrives.
func handOver(t rapid.TB, s *hub.Snapshot, sent, received time.Time) *hub.Snapshot {
	t.Helper()
	b, err := MarshalSnapshot(s, sent)
	if err != nil {
		t.Fatal(err)
	}
	got, err := UnmarshalSnapshot(b, received, restoreRoles)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestEachFieldOfASnapshotArrives, also fields that it gets later: they are filled by reflection.
func TestEachFieldOfASnapshotArrives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &hub.Snapshot{}
		(&filler{t: t, isWhole: rapid.Bool().Draw(t, "whole")}).fill(s)
		if diff := cmp.Diff(s, handOver(t, s, now, now), same); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestMomentsKeepTheirDistance from the present, although the clocks of the hubs do not agree. Only
// the time of the connect is a date.
func TestMomentsKeepTheirDistance(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := &hub.Snapshot{}
		(&filler{t: t, isWhole: true}).fill(s)
		ahead := time.Duration(rapid.Int64Range(-1<<50, 1<<50).Draw(t, "clock"))
		got := handOver(t, s, now, now.Add(ahead))
		if !got.Created.Equal(s.Created) {
			t.Errorf("created at %v, and then at %v", s.Created, got.Created)
		}
		got.Created = got.Created.Add(ahead)
		moments, shifted := momentsOf(reflect.ValueOf(s)), momentsOf(reflect.ValueOf(got))
		if len(moments) < 4 || len(moments) != len(shifted) {
			t.Fatalf("%d moments, then %d", len(moments), len(shifted))
		}
		for i, at := range moments {
			if !at.Add(ahead).Equal(shifted[i]) {
				t.Errorf("moment %d: %v from now, and then %v", i, at.Sub(now),
					shifted[i].Sub(now.Add(ahead)))
			}
		}
	})
}

// momentsOf returns all moments in v, in the order of the fields.
func momentsOf(v reflect.Value) (all []time.Time) {
	if at, ok := reflect.TypeAssert[time.Time](v); ok {
		return []time.Time{at}
	}
	switch v.Kind() {
	case reflect.Pointer:
		return momentsOf(v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				all = append(all, momentsOf(v.Field(i))...)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			all = append(all, momentsOf(v.Index(i))...)
		}
	default:
	}
	return all
}

// smallSnapshot returns a snapshot that the tests below break.
func smallSnapshot() *hub.Snapshot {
	return &hub.Snapshot{
		Identity: hub.Identity{
			ID: "aaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbba", Namespace: "default", User: "ann",
			Claims: &hub.Claims{Roles: roleNames{"role"}, Expires: now},
		},
		Epoch: 1, Phase: hub.PhaseAttached,
		Undelivered: []hub.Envelope{{
			Message: &hub.Message{Kind: hub.Text, Payload: []byte("hi"), Expires: now},
			Route:   hub.Route{Kind: hub.RouteEveryone},
		}},
		Groups: []string{"blue"},
		Grants: []permission.Grant{{Permission: permission.Permission{
			Action: permission.JoinGroup, Group: "blue",
		}}},
		Done:       []ranges.Span{{First: 1, Last: 2}, {First: 4, Last: 4}},
		Resumption: hub.Resumption{DetachedAt: now},
	}
}

type silentRoles struct{}

func (silentRoles) Allows(permission.Permission) bool { return true }

// TestAStateWithoutAFormDoesNotMove: it would be lost on the way.
func TestAStateWithoutAFormDoesNotMove(t *testing.T) {
	for name, spoil := range map[string]func(*hub.Snapshot){
		"phase":     func(s *hub.Snapshot) { s.Phase = hub.PhaseClosed },
		"roles":     func(s *hub.Snapshot) { s.Claims = &hub.Claims{Roles: silentRoles{}} },
		"payload":   func(s *hub.Snapshot) { s.Undelivered[0].Message.Kind = 99 },
		"route":     func(s *hub.Snapshot) { s.Undelivered[0].Route.Kind = 99 },
		"message":   func(s *hub.Snapshot) { s.Undelivered[0].Message = nil },
		"action":    func(s *hub.Snapshot) { s.Grants[0].Action = 99 },
		"not UTF-8": func(s *hub.Snapshot) { s.User = "\xff" },
		"too large": func(s *hub.Snapshot) {
			s.Undelivered[0].Message.Payload = make([]byte, hub.MaxPayload)
			for range MaxBytes / hub.MaxPayload {
				s.Undelivered = append(s.Undelivered, s.Undelivered[0])
			}
		},
	} {
		s := smallSnapshot()
		spoil(s)
		if _, err := MarshalSnapshot(s, now); !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// wireSnapshot returns smallSnapshot as its message.
func wireSnapshot(t testing.TB) *peerv1.HandoverSnapshot {
	t.Helper()
	b, err := MarshalSnapshot(smallSnapshot(), now)
	if err != nil {
		t.Fatal(err)
	}
	m := &peerv1.HandoverSnapshot{}
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestABrokenSnapshotIsRefused(t *testing.T) {
	type wire = peerv1.HandoverSnapshot
	for name, spoil := range map[string]func(*wire){
		"id":        func(m *wire) { m.Connection = "ann" },
		"namespace": func(m *wire) { m.Namespace = "No" },
		"user":      func(m *wire) { m.User = "\n" },
		"group":     func(m *wire) { m.Groups = []string{""} },
		"group twice": func(m *wire) {
			m.Groups = []string{"blue", "blue"}
		},
		"groups": func(m *wire) {
			m.Groups = strings.Split(strings.Repeat("x,", hub.MaxGroups)+"x", ",")
		},
		"created":     func(m *wire) { m.Created = encodeDate(now); m.Created.Nanos = -1 },
		"expiry":      func(m *wire) { m.Claims.ExpiresIn.Nanos = 1 << 30 },
		"given":       func(m *wire) { m.Resumption.Given = []byte("short") },
		"proven":      func(m *wire) { m.Resumption.Proven = []byte("short") },
		"key":         func(m *wire) { m.Resumption.Key = []byte("short") },
		"resumption":  func(m *wire) { m.Resumption = nil },
		"detached":    func(m *wire) { m.Resumption.DetachedFor.Nanos = 1 << 30 },
		"action":      func(m *wire) { m.Grants[0].Action = 0 },
		"grant":       func(m *wire) { m.Grants[0].Group = "\n" },
		"span":        func(m *wire) { m.Done[0].First = 3 },
		"spans":       func(m *wire) { m.Done[1].First = 3 },
		"spans wrap":  func(m *wire) { m.Done[1].First = 0 },
		"payload":     func(m *wire) { m.Undelivered[0].Kind = 99 },
		"kind":        func(m *wire) { m.Undelivered[0].Kind = -1 },
		"text":        func(m *wire) { m.Undelivered[0].Payload = []byte("\xff") },
		"route":       func(m *wire) { m.Undelivered[0].Route = 99 },
		"ttl":         func(m *wire) { m.Undelivered[0].ExpiresIn.Nanos = 1 << 30 },
		"large":       func(m *wire) { m.Undelivered[0].Payload = make([]byte, hub.MaxPayload+1) },
		"many grants": func(m *wire) { m.Grants = repeated(m.Grants[0], permission.MaxGrants+1) },
		"many spans":  func(m *wire) { m.Done = repeated(m.Done[0], ranges.MaxSpans+1) },
	} {
		m := wireSnapshot(t)
		spoil(m)
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := UnmarshalSnapshot(b, now, restoreRoles); !errors.Is(err, ErrBroken) {
			t.Errorf("%s: %v, %v", name, s, err)
		}
	}
	refuse := func([]string, hub.Claims) (*hub.Claims, error) { return nil, errors.New("no") }
	b, _ := MarshalSnapshot(smallSnapshot(), now)
	if _, err := UnmarshalSnapshot(b, now, refuse); !errors.Is(err, ErrBroken) {
		t.Errorf("unknown roles: %v", err)
	}
	large := bytes.Repeat([]byte{0}, MaxBytes+1)
	if _, err := UnmarshalSnapshot(large, now, restoreRoles); !errors.Is(err, ErrBroken) {
		t.Errorf("too large: %v", err)
	}
}

func repeated[T any](one T, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = one
	}
	return all
}

// TestAFieldOfALaterVersionIsRefused, in any message of the body: this hub would lose it.
func TestAFieldOfALaterVersionIsRefused(t *testing.T) {
	changes := &peerv1.HandoverChanges{}
	for _, op := range sampleOps(t) {
		change, err := encodeChange(&op, now)
		if err != nil {
			t.Fatal(err)
		}
		changes.Changes = append(changes.Changes, change)
	}
	for _, tc := range []struct {
		whole  proto.Message
		decode func([]byte) error
	}{
		{wireSnapshot(t), func(b []byte) error {
			_, err := UnmarshalSnapshot(b, now, restoreRoles)
			return err
		}},
		{changes, func(b []byte) error {
			_, err := UnmarshalChanges(b, now)
			return err
		}},
		{&peerv1.HandoverClose{Cause: "slow"}, func(b []byte) error {
			_, err := UnmarshalClose(b)
			return err
		}},
	} {
		count := 0
		eachMessage(tc.whole.ProtoReflect(), func(part protoreflect.Message) {
			count++
			part.SetUnknown(protowire.AppendVarint(
				protowire.AppendTag(nil, 1000, protowire.VarintType), 1,
			))
			b, err := proto.Marshal(tc.whole)
			part.SetUnknown(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := tc.decode(b); !errors.Is(err, ErrBroken) {
				t.Errorf("%s: %v", part.Descriptor().FullName(), err)
			}
		})
		b, _ := proto.Marshal(tc.whole)
		if err := tc.decode(b); err != nil || count == 0 {
			t.Errorf("without it, %d messages: %v", count, err)
		}
	}
}

// eachMessage calls f for m and each message in it. Entries of maps are no messages of ours.
func eachMessage(m protoreflect.Message, f func(protoreflect.Message)) {
	f(m)
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.Kind() != protoreflect.MessageKind || field.IsMap():
		case field.IsList():
			for i := range v.List().Len() {
				eachMessage(v.List().Get(i).Message(), f)
			}
		default:
			eachMessage(v.Message(), f)
		}
		return true
	})
}
