package control

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

func TestGroupsAreJoinedAndLeftByTarget(t *testing.T) {
	f := newFixture(t)
	p := &wireProtocol{}
	f.connect(t, p, "ann", "red")
	full := f.connect(t, p, "bob", many(hub.MaxGroups, 4)...)
	added, err := f.groups.AddToGroups(t.Context(), &controlv1.AddToGroupsRequest{
		Target: everyone(), Groups: []string{"red", "blue", "red"},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := &controlv1.AddToGroupsResponse{
		Matched: 2, Added: 1, Already: 1, Refused: 2,
		Refusals: []*controlv1.Refusal{
			refusal(full, "red", controlv1.RefusalReason_REFUSAL_REASON_GROUP_LIMIT),
			refusal(full, "blue", controlv1.RefusalReason_REFUSAL_REASON_GROUP_LIMIT),
		},
	}
	if diff := cmp.Diff(want, added, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	// In force when the call returns.
	holdReceipt(t, &controlv1.Receipt{Matched: 1, Written: 1, NotAckable: 1},
		f.send(t, &controlv1.SendRequest{
			Target: &controlv1.Target{Groups: []string{"blue"}}, Message: text("x"),
		}))
	group, err := f.groups.GetGroup(t.Context(), &controlv1.GetGroupRequest{Group: "blue"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(
		&controlv1.Group{Name: "blue", Members: 1}, group.GetGroup(), protocmp.Transform(),
	); diff != "" {
		t.Error(diff)
	}

	for _, c := range []struct {
		req  *controlv1.RemoveFromGroupsRequest
		want *controlv1.RemoveFromGroupsResponse
	}{
		{&controlv1.RemoveFromGroupsRequest{
			Target: everyone(), Groups: []string{"blue", "green"},
		}, &controlv1.RemoveFromGroupsResponse{Matched: 2, Removed: 1}},
		{&controlv1.RemoveFromGroupsRequest{
			Target: users("bob"), AllGroups: true,
		}, &controlv1.RemoveFromGroupsResponse{Matched: 1, Removed: hub.MaxGroups}},
	} {
		have, err := f.groups.RemoveFromGroups(t.Context(), c.req)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, have, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	}
	if groups := full.Info().Groups; len(groups) != 0 {
		t.Errorf("bob is still in %v", groups)
	}
	list, err := f.groups.ListGroups(t.Context(), &controlv1.ListGroupsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&controlv1.ListGroupsResponse{
		Groups: []*controlv1.Group{{Name: "red", Members: 1}},
	}, list, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
}
