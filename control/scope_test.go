package control

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// newExecutor returns the executor of a hub without peers.
func (f *fixture) newExecutor(t *testing.T) *executor {
	t.Helper()
	validator, err := form.NewValidator()
	if err != nil {
		t.Fatal(err)
	}
	return &executor{f.hub, validator.Check, slogTo(f.log), newVerbTable(), nil}
}

// executedIn carries a call out in a scope, and returns its result.
func executedIn(
	t *testing.T, e *executor, call *mesh.Call, scope mesh.Scope,
) *peerv1.ForwardResult {
	t.Helper()
	var burst hub.Burst
	x := e.Execute(t.Context(), call.Forward, scope, &burst)
	burst.Flush()
	if x.Awaited != nil {
		done := make(chan struct{})
		x.Awaited.Then(func() { close(done) })
		<-done
	}
	return x.Result()
}

// sendCall returns a send as a call for peers.
func sendCall(t *testing.T, req *controlv1.SendRequest) *mesh.Call {
	t.Helper()
	checked := newCheckedSend(req, sourceCall{caller: "backend", began: time.Now()})
	if err := identifyRequest(&checked.send, req); err != nil {
		t.Fatal(err)
	}
	call, err := newSendCall(checked)
	if err != nil {
		t.Fatal(err)
	}
	return call
}

// verbCall returns the call of a verb for peers.
func verbCall[Q verbRequest, R proto.Message](
	t *testing.T, v *verb[Q, R], request Q,
) *mesh.Call {
	t.Helper()
	call, err := newVerbCall(t.Context(), v, request)
	if err != nil {
		t.Fatal(err)
	}
	return call
}

func TestASendReachesTheConnectionsOfItsScopeAlone(t *testing.T) {
	f := newFixture(t)
	e, p := f.newExecutor(t), &wireProtocol{}
	ann, bob := f.connect(t, p, "ann", "lobby"), f.connect(t, p, "bob", "lobby")
	eve, joe := f.connect(t, p, "eve"), f.connect(t, p, "joe", "lobby")
	target := &controlv1.Target{
		Groups: []string{"lobby"}, Except: &controlv1.Exclusion{Users: []string{"joe"}},
	}
	for _, tc := range []struct {
		text  string
		scope mesh.Scope
		want  int32
	}{
		{"all", mesh.Scope{}, 2},
		{"but ann", mesh.Scope{Except: []hub.ConnectionID{ann.ID(), eve.ID()}}, 1},
		{"only ann", mesh.Scope{Only: ann.ID()}, 1},
		{"not eve", mesh.Scope{Only: eve.ID()}, 0},
		{"not joe", mesh.Scope{Only: joe.ID()}, 0},
	} {
		call := sendCall(t, to(target, tc.text))
		r := executedIn(t, e, call, tc.scope).GetSend().GetReceipt()
		if r.GetMatched() != tc.want || r.GetWritten() != tc.want {
			t.Errorf("%s: %v", tc.text, r)
		}
	}
	for c, want := range map[*client]string{
		ann: "all|only ann|", bob: "all|but ann|", eve: "", joe: "",
	} {
		if have := c.received(); have != want {
			t.Errorf("%s has %q, want %q", c.Identity().User, have, want)
		}
	}
}

// A send that was held for a connection is a part of a send that the hub has delivered already: its
// request id is known. It must not count as a retry.
func TestASendForASingleConnectionIsNoRetry(t *testing.T) {
	f := newFixture(t)
	e, p := f.newExecutor(t), &wireProtocol{}
	ann, bob := f.connect(t, p, "ann", "lobby"), f.connect(t, p, "bob", "lobby")
	req := to(groupsTarget("lobby"), "x")
	req.RequestId = "r"
	call := sendCall(t, req)
	for _, scope := range []mesh.Scope{
		{Except: []hub.ConnectionID{ann.ID()}}, {Only: ann.ID()},
	} {
		r := executedIn(t, e, call, scope).GetSend().GetReceipt()
		if r.GetDuplicate() || r.GetMatched() != 1 {
			t.Errorf("%v: %v", scope, r)
		}
	}
	if r := executedIn(t, e, call, mesh.Scope{}).GetSend().GetReceipt(); !r.GetDuplicate() {
		t.Errorf("a retry: %v", r)
	}
	for _, c := range []*client{ann, bob} {
		if have := c.received(); have != "x|" {
			t.Errorf("%s has %q", c.Identity().User, have)
		}
	}
}

// A send has a time until which its result is wanted, also if it has nothing to wait for: the mesh
// may hold the rest of it.
func TestEachSendSaysWhenItsResultIsDue(t *testing.T) {
	f := newFixture(t)
	e := f.newExecutor(t)
	f.connect(t, &wireProtocol{}, "ann")
	for _, wait := range []controlv1.Wait{
		controlv1.Wait_WAIT_NONE, controlv1.Wait_WAIT_QUEUED, controlv1.Wait_WAIT_WRITTEN,
	} {
		var burst hub.Burst
		began := time.Now()
		call := sendCall(t, waiting(to(users("ann"), "x"), wait, time.Minute))
		x := e.Execute(t.Context(), call.Forward, mesh.Scope{}, &burst)
		burst.Flush()
		// The entry hub takes off the time for the way back.
		if left := x.Until.Sub(began); left < 50*time.Second || left > 2*time.Minute {
			t.Errorf("%v: %v are left", wait, left)
		}
	}
}

func TestAVerbChangesTheConnectionsOfItsScopeAlone(t *testing.T) {
	f := newFixture(t)
	e, p := f.newExecutor(t), &wireProtocol{}
	ann, bob := f.connect(t, p, "ann", "lobby"), f.connect(t, p, "bob", "lobby")
	eve := f.connect(t, p, "eve")
	lobby := groupsTarget("lobby")
	for i, tc := range []struct {
		scope mesh.Scope
		want  []*client
	}{
		{mesh.Scope{}, []*client{ann, bob}},
		{mesh.Scope{Except: []hub.ConnectionID{ann.ID()}}, []*client{bob}},
		{mesh.Scope{Only: ann.ID()}, []*client{ann}},
		{mesh.Scope{Only: eve.ID()}, nil},
	} {
		group := fmt.Sprint("group-", i)
		join := verbCall(t, &joinVerb, &controlv1.AddToGroupsRequest{
			Target: lobby, Groups: []string{group},
		})
		matched := int32(len(tc.want))
		joined := executedIn(t, e, join, tc.scope).GetJoin()
		if joined.GetMatched() != matched || joined.GetAdded() != matched {
			t.Errorf("%v: joined %v", tc.scope, joined)
		}
		for _, c := range tc.want {
			if info, err := f.hub.Connection(hub.DefaultNamespace, string(c.ID())); err != nil ||
				info.Groups[len(info.Groups)-1] != group {
				t.Errorf("%v: %s is in %v, %v", tc.scope, info.User, info.Groups, err)
			}
		}
		leave := verbCall(t, &leaveVerb, &controlv1.RemoveFromGroupsRequest{
			Target: lobby, Groups: []string{group},
		})
		if left := executedIn(t, e, leave, tc.scope).GetLeave(); left.GetRemoved() != matched {
			t.Errorf("%v: left %v", tc.scope, left)
		}
		grant := verbCall(t, &grantVerb, &controlv1.GrantPermissionsRequest{
			Target: lobby, Permissions: []*controlv1.Permission{{
				Action: controlv1.PermissionAction_PERMISSION_ACTION_JOIN_LEAVE_GROUP, Group: group,
			}},
		})
		if made := executedIn(t, e, grant, tc.scope).GetGrant(); made.GetChanged() != matched {
			t.Errorf("%v: granted %v", tc.scope, made)
		}
		count := verbCall(t, &countVerb, &controlv1.CloseConnectionsRequest{Target: lobby})
		if have := executedIn(t, e, count, tc.scope).GetClose(); have.GetMatched() != matched {
			t.Errorf("%v: counted %v", tc.scope, have)
		}
	}
	closing := verbCall(t, &closeVerb, &controlv1.CloseConnectionsRequest{Target: lobby})
	only := mesh.Scope{Only: ann.ID()}
	if closed := executedIn(t, e, closing, only).GetClose(); closed.GetClosed() != 1 {
		t.Errorf("closed %v", closed)
	}
	if have := f.hub.Len(); have != 2 {
		t.Errorf("%d connections are left, want 2", have)
	}
}
