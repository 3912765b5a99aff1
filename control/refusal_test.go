package control

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/permission"
)

// sortedRefusals is for comparisons: refusals come in no particular order.
func sortedRefusals(all []*controlv1.Refusal) []*controlv1.Refusal {
	return slices.SortedFunc(slices.Values(all), func(a, b *controlv1.Refusal) int {
		return cmp.Or(cmp.Compare(a.GetConnection(), b.GetConnection()), cmp.Compare(
			a.GetGroup(), b.GetGroup(),
		))
	})
}

func refusal(c *client, group string, reason controlv1.RefusalReason) *controlv1.Refusal {
	return &controlv1.Refusal{Connection: string(c.ID()), Group: group, Reason: reason}
}

func holdRefusals(t *testing.T, want, have []*controlv1.Refusal) {
	t.Helper()
	if diff := gocmp.Diff(
		sortedRefusals(want), sortedRefusals(have), protocmp.Transform(),
	); diff != "" {
		t.Error(diff)
	}
}

func TestWhatWasRefusedIsNamedByEveryHub(t *testing.T) {
	const (
		groupLimit = controlv1.RefusalReason_REFUSAL_REASON_GROUP_LIMIT
		grantLimit = controlv1.RefusalReason_REFUSAL_REASON_GRANT_LIMIT
	)
	c := newCluster(t, 2)
	p := &wireProtocol{}
	var inGroups, inGrants []*controlv1.Refusal
	for _, f := range c.hubs {
		f.connect(t, p, "ann")
		full := f.connect(t, p, "ann", many(hub.MaxGroups, 4)...)
		inGroups = append(inGroups, refusal(full, "a", groupLimit), refusal(full, "b", groupLimit))
		inGrants = append(inGrants, refusal(full, "", grantLimit))
		for i := range permission.MaxGrants / 100 {
			names := many(100, 8)
			for j := range names {
				names[j] = fmt.Sprint(i, "-", names[j])
			}
			f.grant(t, &controlv1.GrantPermissionsResponse{Matched: 1, Changed: 1},
				&controlv1.Target{Connections: []string{string(full.ID())}},
				may(sendToGroup, names...)...)
		}
	}
	for _, f := range c.hubs {
		joined, err := f.groups.AddToGroups(t.Context(), &controlv1.AddToGroupsRequest{
			Target: users("ann"), Groups: []string{"0001", "a", "b"},
		})
		if err != nil || joined.GetMatched() != 4 || joined.GetRefused() != 4 {
			t.Fatalf("%v, %v", joined, err)
		}
		holdRefusals(t, inGroups, joined.GetRefusals())
		granted, err := f.access.GrantPermissions(t.Context(), &controlv1.GrantPermissionsRequest{
			Target: users("ann"), Permissions: may(joinLeave, "g"),
		})
		if err != nil || granted.GetChanged() != 2 || granted.GetRefused() != 2 {
			t.Fatalf("%v, %v", granted, err)
		}
		holdRefusals(t, inGrants, granted.GetRefusals())
		revoked, err := f.access.RevokePermissions(t.Context(), &controlv1.RevokePermissionsRequest{
			Target: users("ann"), Permissions: may(joinLeave, "g"),
		})
		if err != nil || revoked.GetChanged() != 2 || revoked.GetRefused() != 2 {
			t.Fatalf("%v, %v", revoked, err)
		}
		holdRefusals(t, inGrants, revoked.GetRefusals())
	}
}

func TestTheNamesOfWhatWasRefusedAreBoundedAndTheCountsAreNot(t *testing.T) {
	c := newCluster(t, 2)
	p := &wireProtocol{}
	groups := many(hub.MaxGroups, 4)
	for i := range 60 {
		for _, f := range c.hubs {
			f.connect(t, p, fmt.Sprint("user", i), groups...)
		}
	}
	joined, err := c.hubs[0].groups.AddToGroups(
		t.Context(), &controlv1.AddToGroupsRequest{Target: everyone(), Groups: []string{"a", "b"}},
	)
	if err != nil || joined.GetMatched() != 120 ||
		joined.GetRefused() != 240 || len(joined.GetRefusals()) != hub.MaxRefusals {
		t.Errorf("matched %d, refused %d, %d names, %v",
			joined.GetMatched(), joined.GetRefused(), len(joined.GetRefusals()), err)
	}
	few := addRefusals(joined.GetRefusals()[:60], joined.GetRefusals())
	if len(few) != hub.MaxRefusals || len(addRefusals(few, few)) != hub.MaxRefusals {
		t.Errorf("%d names", len(few))
	}
}

func TestEveryReasonOfARefusalHasAWordOfTheAPI(t *testing.T) {
	for _, err := range []error{hub.ErrGroupLimit, hub.ErrGrantLimit, hub.ErrClosed} {
		if r := newRefusals([]hub.Refusal{{Connection: "c", Reason: err}}); r[0].GetReason() == 0 {
			t.Errorf("%v has none", err)
		}
	}
	if r := newRefusals([]hub.Refusal{{Reason: errors.New("unknown")}}); r[0].GetReason() != 0 {
		t.Errorf("an unknown one is %v", r)
	}
}
