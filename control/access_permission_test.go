package control

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/connhub/connhub/control/failure"
	"github.com/connhub/connhub/control/failure/failuretest"
	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/permission"
)

const (
	joinLeave   = controlv1.PermissionAction_PERMISSION_ACTION_JOIN_LEAVE_GROUP
	sendToGroup = controlv1.PermissionAction_PERMISSION_ACTION_SEND_TO_GROUP
)

func may(action controlv1.PermissionAction, groups ...string) []*controlv1.Permission {
	all := make([]*controlv1.Permission, len(groups))
	for i, g := range groups {
		all[i] = &controlv1.Permission{Action: action, Group: g}
	}
	return all
}

func (f *fixture) grant(t *testing.T, want *controlv1.GrantPermissionsResponse,
	to *controlv1.Target, p ...*controlv1.Permission,
) {
	t.Helper()
	have, err := f.access.GrantPermissions(
		t.Context(), &controlv1.GrantPermissionsRequest{Target: to, Permissions: p},
	)
	hold(t, err, want, have)
}

func (f *fixture) revoke(t *testing.T, want *controlv1.RevokePermissionsResponse,
	from *controlv1.Target, p ...*controlv1.Permission,
) {
	t.Helper()
	have, err := f.access.RevokePermissions(
		t.Context(), &controlv1.RevokePermissionsRequest{Target: from, Permissions: p},
	)
	hold(t, err, want, have)
}

func (f *fixture) check(t *testing.T, want *controlv1.CheckPermissionsResponse,
	of *controlv1.Target, p ...*controlv1.Permission,
) {
	t.Helper()
	have, err := f.access.CheckPermissions(
		t.Context(), &controlv1.CheckPermissionsRequest{Target: of, Permissions: p},
	)
	hold(t, err, want, have)
}

// senders is a role.
type senders struct{}

func (senders) Allows(p permission.Permission) bool { return p.Action == permission.SendToGroup }

func TestTheLastGrantOrRevocationCountsAndThenTheRole(t *testing.T) {
	f := newFixture(t)
	f.connect(t, &wireProtocol{}, "ann")
	f.attachAs(
		t, &wireProtocol{}, hub.Admission{User: "bob", Claims: &hub.Claims{Roles: senders{}}},
	)
	counts := func(matched, allowed int32) *controlv1.CheckPermissionsResponse {
		return &controlv1.CheckPermissionsResponse{Matched: matched, Allowed: allowed}
	}
	granted := &controlv1.GrantPermissionsResponse{Matched: 1, Changed: 1}
	revoked := &controlv1.RevokePermissionsResponse{Matched: 1, Changed: 1}

	f.check(t, counts(2, 1), everyone(), may(sendToGroup, "g", "")...) // bob's role
	f.check(t, counts(0, 0), users("nobody"), may(sendToGroup, "g")...)

	f.grant(t, granted, users("ann"), append(may(sendToGroup, "g", "h"), may(joinLeave, "g")...)...)
	f.check(t, counts(1, 1), users("ann"), append(may(sendToGroup, "g", "h"),
		may(joinLeave, "g")...)...)
	f.check(t, counts(1, 0), users("ann"), may(joinLeave, "g", "h")...) // all of them or not
	f.check(t, counts(1, 0), users("ann"), may(sendToGroup, "")...)

	f.revoke(t, revoked, users("bob"), may(sendToGroup, "g")...)
	f.check(t, counts(1, 0), users("bob"), may(sendToGroup, "g")...)
	f.check(t, counts(1, 0), users("bob"), may(sendToGroup, "")...)
	f.check(t, counts(1, 1), users("bob"), may(sendToGroup, "h")...)

	f.grant(t, granted, users("bob"), may(sendToGroup, "")...)
	f.check(t, counts(1, 1), users("bob"), may(sendToGroup, "g", "")...)
	f.revoke(t, revoked, users("bob"), may(sendToGroup, "")...)
	f.check(t, counts(1, 0), users("bob"), may(sendToGroup, "h")...)

	// A star is a name.
	f.grant(t, granted, users("ann"), may(joinLeave, "*")...)
	f.check(t, counts(1, 1), users("ann"), may(joinLeave, "*")...)
	f.check(t, counts(1, 0), users("ann"), may(joinLeave, "h")...)
}

func TestAConnectionWithTooManyGrantsGetsNoneOfTheCall(t *testing.T) {
	f := newFixture(t)
	ann := f.connect(t, &wireProtocol{}, "ann")
	for i := range permission.MaxGrants / 100 {
		names := many(100, 8)
		for j := range names {
			names[j] = fmt.Sprint(i, "-", names[j])
		}
		f.grant(t, &controlv1.GrantPermissionsResponse{Matched: 1, Changed: 1},
			users("ann"), may(sendToGroup, names...)...)
	}
	refused := []*controlv1.Refusal{
		refusal(ann, "", controlv1.RefusalReason_REFUSAL_REASON_GRANT_LIMIT),
	}
	f.grant(t, &controlv1.GrantPermissionsResponse{
		Matched: 1, Refused: 1, Refusals: refused,
	}, users("ann"), may(joinLeave, "one more")...)
	f.revoke(t, &controlv1.RevokePermissionsResponse{
		Matched: 1, Refused: 1, Refusals: refused,
	}, users("ann"), may(joinLeave, "one more")...)
	f.grant(t, &controlv1.GrantPermissionsResponse{Matched: 1, Changed: 1},
		users("ann"), append(may(sendToGroup, ""), may(joinLeave, "one more")...)...)
	f.check(t, &controlv1.CheckPermissionsResponse{Matched: 1, Allowed: 1},
		users("ann"), append(may(sendToGroup, ""), may(joinLeave, "one more")...)...)
}

func TestPermissionsAreChangedAndCountedAtEveryHub(t *testing.T) {
	c := newCluster(t, 3)
	p := &wireProtocol{}
	var clients []*client
	for _, f := range c.hubs {
		clients = append(clients, f.connect(t, p, "ann"), f.connect(t, p, "bob"))
	}
	for i, f := range c.hubs {
		next, group := c.hubs[(i+1)%3], fmt.Sprint("group-", i)
		f.grant(t, &controlv1.GrantPermissionsResponse{Matched: 3, Changed: 3},
			users("ann"), may(joinLeave, group)...)
		next.check(t, &controlv1.CheckPermissionsResponse{Matched: 6, Allowed: 3},
			everyone(), may(joinLeave, group)...)
		for j, client := range clients {
			joining := permission.Permission{Action: permission.JoinGroup, Group: group}
			if client.May(joining) != (j%2 == 0) {
				t.Errorf("client %d may: %v", j, j%2 != 0)
			}
		}
		other := clients[2*((i+2)%3)] // ann at a third hub
		next.revoke(t, &controlv1.RevokePermissionsResponse{Matched: 1, Changed: 1},
			&controlv1.Target{Connections: []string{string(other.ID())}}, may(joinLeave, group)...)
		f.check(t, &controlv1.CheckPermissionsResponse{Matched: 3, Allowed: 2},
			users("ann"), may(joinLeave, group)...)
	}

	lost := string(c.hubs[2].hub.ID())
	c.hubs[2].server.grpc.Stop()
	c.hubs[0].losesSightOf(t, lost)
	unknown := []string{lost}
	f := c.hubs[0]
	f.grant(t, &controlv1.GrantPermissionsResponse{
		Matched: 2, Changed: 2, UnreachableHubs: unknown,
	}, users("bob"), may(sendToGroup, "g")...)
	f.check(t, &controlv1.CheckPermissionsResponse{
		Matched: 2, Allowed: 2, UnreachableHubs: unknown,
	}, users("bob"), may(sendToGroup, "g")...)
	f.revoke(t, &controlv1.RevokePermissionsResponse{
		Matched: 2, Changed: 2, UnreachableHubs: unknown,
	}, users("bob"), may(sendToGroup, "g")...)
}

func TestPermissionsThatAPeerGrantsAreCheckedAgain(t *testing.T) {
	f := newFixture(t)
	validator, err := form.NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	e := &executor{f.hub, validator.Check, slogTo(f.log), newVerbTable(), nil}
	ann := f.connect(t, &wireProtocol{}, "ann")
	for _, req := range []*controlv1.GrantPermissionsRequest{
		{Target: users("ann")},
		{Permissions: may(joinLeave, "g")},
		{Target: users("ann"), Permissions: may(0, "g")},
		{Target: users("ann"), Permissions: may(joinLeave, "g\n")},
		{Target: users("ann"), Permissions: may(joinLeave, "g"), Namespace: "No"},
	} {
		grant, err1 := newVerbCall(t.Context(), &grantVerb, req)
		revoke, err2 := newVerbCall(t.Context(), &revokeVerb, &controlv1.RevokePermissionsRequest{
			Target: req.GetTarget(), Permissions: req.GetPermissions(),
			Namespace: req.GetNamespace(),
		})
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		for _, call := range []*mesh.Call{grant, revoke} {
			if result := executed(t, e, call.Forward); errorIn(result) == nil {
				t.Errorf("%v was executed", call.Forward)
			}
		}
	}
	if ann.May(permission.Permission{Action: permission.JoinGroup, Group: "g"}) {
		t.Error("ann may")
	}
}

// permitting makes a call of each of the three methods.
func permitting(
	target *controlv1.Target, p ...*controlv1.Permission,
) []func(context.Context, *fixture) error {
	return []func(context.Context, *fixture) error{
		func(ctx context.Context, f *fixture) error {
			_, err := f.access.GrantPermissions(
				ctx, &controlv1.GrantPermissionsRequest{Target: target, Permissions: p},
			)
			return err
		},
		func(ctx context.Context, f *fixture) error {
			_, err := f.access.RevokePermissions(
				ctx, &controlv1.RevokePermissionsRequest{Target: target, Permissions: p},
			)
			return err
		},
		func(ctx context.Context, f *fixture) error {
			_, err := f.access.CheckPermissions(
				ctx, &controlv1.CheckPermissionsRequest{Target: target, Permissions: p},
			)
			return err
		},
	}
}

func permissionFaults() []fault {
	nobody := users("nobody")
	var all []fault
	for _, c := range []struct {
		name, reason, field, description string
		calls                            []func(context.Context, *fixture) error
	}{
		// a check without a target checks everyone
		{"of nobody", empty, "target", "everyone", permitting(nil, may(joinLeave, "g")...)[:2]},
		{"none", invalid, "permissions", "1", permitting(nobody)},
		{"100", "", "", "", permitting(nobody, may(joinLeave, many(100, 1024)...)...)},
		{"101", exceeded, "permissions", "100", permitting(
			nobody, may(joinLeave, many(101, 4)...)...,
		)},
		{"without an action", invalid, "permissions[1].action", "required", permitting(
			nobody, append(may(joinLeave, "g"), may(0, "g")...)...,
		)},
		{
			"with an unknown action", invalid, "permissions[0].action",
			"", permitting(nobody, may(3, "g")...),
		},
		{"for every group", "", "", "", permitting(nobody, may(sendToGroup, "")...)},
		{"for a group of 1,025 bytes", exceeded, "permissions[0].group", "1024", permitting(
			nobody, may(sendToGroup, long(1025))...,
		)},
		{"for a group with a newline", invalid, "permissions[0].group", "control", permitting(
			nobody, may(sendToGroup, "g\n")...,
		)},
	} {
		for i, do := range c.calls {
			name := []string{"grant permissions ", "revoke permissions ", "check permissions "}[i] +
				c.name
			all = append(all, fault{name, c.reason, c.field, c.description, do})
		}
	}
	return all
}

// A later version may forward a verb that this version does not know.
func TestAForwardedCallThatIsUnknownIsRefused(t *testing.T) {
	f := newFixture(t)
	later := &peerv1.Forward{Sequence: 1}
	later.ProtoReflect().SetUnknown([]byte{15<<3 | 2, 1, 'x'})
	err := errorIn(executed(t, &executor{f.hub, nil, slogTo(f.log), newVerbTable(), nil}, later))
	failuretest.HoldError(t, failure.ToStatus(err), codes.Unimplemented, "UNKNOWN_METHOD")
}
