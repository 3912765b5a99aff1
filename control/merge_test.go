package control

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// drawTarget draws a target with names that some of the people have.
func drawTarget(t *rapid.T, all []*client) *controlv1.Target {
	ids := []string{"x.y"}
	for _, c := range all {
		ids = append(ids, string(c.ID()))
	}
	some := func(label string, names []string, most int) []string {
		return rapid.SliceOfN(rapid.SampledFrom(names), 0, most).Draw(t, label)
	}
	users, groups := []string{"ann", "bob", "nobody"}, []string{"lobby", "blue", "empty"}
	return &controlv1.Target{
		Connections: some("connections", ids, 3), Users: some("users", users, 3),
		Groups: some("groups", groups, 3), Everyone: rapid.Bool().Draw(t, "everyone"),
		Except: &controlv1.Exclusion{
			Connections: some("not connections", ids, 1), Users: some("not users", users, 1),
			Groups: some("not groups", groups, 1),
		},
	}
}

// connectPeople connects clients with all kinds of names.
func (f *fixture) connectPeople(t *testing.T) []*client {
	p := &wireProtocol{}
	return []*client{
		f.connect(t, p, "ann", "lobby"), f.connect(t, p, "ann", "blue"), f.connect(t, p, "ann"),
		f.connect(t, p, "bob", "lobby", "blue"), f.connect(t, p, ""), f.connect(t, p, "", "blue"),
	}
}

// drawMoving draws some connections.
func drawMoving(t *rapid.T, all []*client) (moving []hub.ConnectionID) {
	for _, c := range all {
		if rapid.Bool().Draw(t, "moves") {
			moving = append(moving, c.ID())
		}
	}
	return moving
}

// executeInParts carries a call out as the mesh does while connections move.
func executeInParts(
	t *testing.T, e *executor, call *mesh.Call, moving []hub.ConnectionID,
) *peerv1.ForwardResult {
	t.Helper()
	sum := e.Merge(nil, executedIn(t, e, call, mesh.Scope{Except: moving}))
	for _, id := range moving {
		sum = e.Merge(sum, executedIn(t, e, call, mesh.Scope{Only: id}))
	}
	return sum
}

func TestTheReceiptsOfPartsAddUpToTheReceiptOfTheWhole(t *testing.T) {
	f := newFixture(t)
	e, all := f.newExecutor(t), f.connectPeople(t)
	rapid.Check(t, func(rt *rapid.T) {
		req := to(drawTarget(rt, all), "x")
		req.Detail = controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS
		call := sendCall(t, req)
		whole := executedIn(t, e, call, mesh.Scope{})
		parts := executeInParts(t, e, call, drawMoving(rt, all))
		if diff := cmp.Diff(whole, parts, protocmp.Transform()); diff != "" {
			rt.Error(diff)
		}
	})
}

func TestConnectionsThatMoveAreInTransferUntilTheyGetTheMessage(t *testing.T) {
	f := newFixture(t)
	e, all := f.newExecutor(t), f.connectPeople(t)
	rapid.Check(t, func(rt *rapid.T) {
		req := to(drawTarget(rt, all), "x")
		req.Detail = controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS
		call, moving := sendCall(t, req), drawMoving(rt, all)
		whole := executedIn(t, e, call, mesh.Scope{})
		var part *peerv1.ForwardResult // nil: no part is done yet
		if rapid.Bool().Draw(rt, "the rest is done") {
			part = executedIn(t, e, call, mesh.Scope{Except: moving})
		} else {
			moving = nil
			for _, c := range all {
				moving = append(moving, c.ID())
			}
		}
		have := e.InTransfer(call.Forward, part, append(moving, "gone.x"))
		r := have.GetSend().GetReceipt()
		if r.GetMatched() != r.GetWritten()+r.GetInTransfer() {
			rt.Errorf("the receipt does not add up: %v", r)
		}
		r.Written, r.NotAckable = r.GetMatched(), r.GetMatched()
		r.InTransfer = 0
		if diff := cmp.Diff(whole, have, protocmp.Transform()); diff != "" {
			rt.Error(diff)
		}
	})
}

func TestThePartsOfAVerbAddUpToTheWhole(t *testing.T) {
	f := newFixture(t)
	e, all := f.newExecutor(t), f.connectPeople(t)
	everyone := &controlv1.Target{Everyone: true}
	number := 0
	rapid.Check(t, func(rt *rapid.T) {
		target, moving := drawTarget(rt, all), drawMoving(rt, all)
		if rapid.Bool().Draw(rt, "all") {
			target = everyone
		}
		// A verb has its result for the first time only, so the whole has a group of its own.
		group := func() string { number++; return fmt.Sprint("g", number) }
		for _, call := range []func() *mesh.Call{
			func() *mesh.Call {
				return verbCall(t, &joinVerb, &controlv1.AddToGroupsRequest{
					Target: target, Groups: []string{group()},
				})
			},
			func() *mesh.Call {
				return verbCall(t, &grantVerb, &controlv1.GrantPermissionsRequest{
					Target: target, Permissions: []*controlv1.Permission{{
						Action: controlv1.PermissionAction_PERMISSION_ACTION_SEND_TO_GROUP,
						Group:  "g",
					}},
				})
			},
			func() *mesh.Call {
				return verbCall(t, &countVerb, &controlv1.CloseConnectionsRequest{Target: target})
			},
		} {
			whole := executedIn(t, e, call(), mesh.Scope{})
			parts := executeInParts(t, e, call(), moving)
			if diff := cmp.Diff(whole, parts, protocmp.Transform()); diff != "" {
				rt.Error(diff)
			}
			none := e.InTransfer(call().Forward, proto.CloneOf(parts), moving)
			if diff := cmp.Diff(whole, none, protocmp.Transform()); diff != "" {
				rt.Errorf("a verb has connections in transfer: %s", diff)
			}
		}
		for i := number - 1; i <= number; i++ { // a connection may be in few groups
			leave := verbCall(t, &leaveVerb, &controlv1.RemoveFromGroupsRequest{
				Target: everyone, Groups: []string{fmt.Sprint("g", i)},
			})
			if err := errorIn(executedIn(t, e, leave, mesh.Scope{})); err != nil {
				rt.Fatal(err)
			}
		}
	})
}

func TestAPartThatFailsFailsTheWhole(t *testing.T) {
	e := newFixture(t).newExecutor(t)
	sent := func() *peerv1.ForwardResult {
		return &peerv1.ForwardResult{Result: &peerv1.ForwardResult_Send{Send: &peerv1.SendResult{}}}
	}
	first, second := errorResult(hub.ErrShuttingDown), errorResult(hub.ErrRequestIDReused)
	for _, tc := range []struct{ sum, part, want *peerv1.ForwardResult }{
		{nil, nil, nil},
		{nil, first, first},
		{first, nil, first},
		{sent(), first, first},
		{first, sent(), first},
		{first, second, first},
	} {
		if have := e.Merge(tc.sum, tc.part); !proto.Equal(have, tc.want) {
			t.Errorf("%v and %v are %v, want %v", tc.sum, tc.part, have, tc.want)
		}
	}
	send := sendCall(t, to(users("ann"), "x")).Forward
	if have := e.InTransfer(send, first, []hub.ConnectionID{"a.b"}); !proto.Equal(have, first) {
		t.Errorf("an error becomes %v", have)
	}
}
