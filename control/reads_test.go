package control

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// A call that only reads can do no harm, so it needs no word that everyone is meant.
func TestAReadWithoutATargetIsAboutEveryone(t *testing.T) {
	f := newFixture(t)
	p := &wireProtocol{}
	ann, bob := f.connect(t, p, "ann"), f.connect(t, p, "bob")
	butBob := &controlv1.Exclusion{Users: []string{"bob"}}
	for name, c := range map[string]struct {
		target *controlv1.Target
		want   map[string]bool
	}{
		"none": {nil, map[string]bool{string(ann.ID()): true, string(bob.ID()): true}},
		"empty": {
			&controlv1.Target{}, map[string]bool{string(ann.ID()): true, string(bob.ID()): true},
		},
		"exceptions": {&controlv1.Target{Except: butBob}, map[string]bool{string(ann.ID()): true}},
		"names":      {users("bob"), map[string]bool{string(bob.ID()): true}},
	} {
		have := map[string]bool{}
		for page := range pagesOf(t, f, c.target, 1) {
			for _, connection := range page {
				have[connection.GetId()] = true
			}
		}
		if diff := cmp.Diff(c.want, have); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		f.check(t, &controlv1.CheckPermissionsResponse{
			Matched: int32(len(c.want)),
		}, c.target, may(joinLeave, "g")...)
	}
	// The names of exceptions are held to their rules all the same.
	_, err := f.connections.ListConnections(t.Context(), &controlv1.ListConnectionsRequest{
		Target: &controlv1.Target{Except: &controlv1.Exclusion{Users: []string{""}}},
	})
	holdFieldError(t, err, invalid, "target.except.users[0]", "empty")
}
