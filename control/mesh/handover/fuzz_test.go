package handover

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/cause"
)

// FuzzAnyBytesAreAStateOrBroken: bytes of a stranger cause no panic. Bytes that are accepted are a
// state that can move on, unchanged.
func FuzzAnyBytesAreAStateOrBroken(f *testing.F) {
	snapshot, err := MarshalSnapshot(smallSnapshot(), now)
	if err != nil {
		f.Fatal(err)
	}
	changes, err := MarshalChanges(sampleOps(f), now)
	if err != nil {
		f.Fatal(err)
	}
	how := cause.Slow.CloseStatus()
	closed, err := MarshalClose(&how)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{nil, snapshot, snapshot[:len(snapshot)-1], changes, closed} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := UnmarshalSnapshot(b, now, restoreRoles); checkBroken(t, err) {
			if diff := cmp.Diff(s, handOver(t, s, now, now), same); diff != "" {
				t.Error("snapshot:", diff)
			}
		}
		if ops, err := UnmarshalChanges(b, now); checkBroken(t, err) {
			again, err := MarshalChanges(ops, now)
			if err != nil {
				t.Fatal(err)
			}
			got, err := UnmarshalChanges(again, now)
			if diff := cmp.Diff(ops, got, same); diff != "" || err != nil {
				t.Error("changes:", diff, err)
			}
		}
		if how, err := UnmarshalClose(b); checkBroken(t, err) {
			again, err := MarshalClose(how)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := UnmarshalClose(again); err != nil || !cmp.Equal(got, how) {
				t.Errorf("close: %+v is %+v, %v", how, got, err)
			}
		}
	})
}

// checkBroken reports whether there is no error. It fails for an error that is not ErrBroken.
func checkBroken(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && !errors.Is(err, ErrBroken) {
		t.Error(err)
	}
	return err == nil
}
