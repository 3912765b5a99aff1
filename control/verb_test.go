package control

import (
	"context"
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/form"
	"github.com/connhub/connhub/control/mesh"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

// Each verb of forward.proto has a row, and a row wraps its call and its result under its name. A
// send, a drain and a rebalance are no verbs.
func TestEachForwardedCallHasAnExecution(t *testing.T) {
	table := newVerbTable()
	fields := (*peerv1.Forward)(nil).ProtoReflect().Descriptor().Oneofs().ByName("call").Fields()
	for i := range fields.Len() {
		switch name := string(fields.Get(i).Name()); name {
		case "send", "drain", "rebalance":
		default:
			if table[name].execute == nil {
				t.Errorf("no execution for %s", name)
			}
		}
	}
	for _, row := range []struct {
		name           string
		call           *peerv1.Forward
		result, parted proto.Message
	}{
		{"join", joinVerb.wrap(nil), joinVerb.result(nil), joinVerb.partOf(nil)},
		{"leave", leaveVerb.wrap(nil), leaveVerb.result(nil), leaveVerb.partOf(nil)},
		{"close", closeVerb.wrap(nil), closeVerb.result(nil), closeVerb.partOf(nil)},
		{"close", countVerb.wrap(nil), countVerb.result(nil), countVerb.partOf(nil)},
		{"grant", grantVerb.wrap(nil), grantVerb.result(nil), grantVerb.partOf(nil)},
		{"revoke", revokeVerb.wrap(nil), revokeVerb.result(nil), revokeVerb.partOf(nil)},
	} {
		if kind := mesh.KindOf(row.call); kind != row.name {
			t.Errorf("%s wraps its call as %s", row.name, kind)
		}
		result := row.result.ProtoReflect()
		field := result.WhichOneof(result.Descriptor().Oneofs().ByName("result"))
		if field == nil || string(field.Name()) != row.name {
			t.Errorf("%s wraps its result as %v", row.name, field)
		}
		want := field.Message().FullName()
		if row.parted.ProtoReflect().Descriptor().FullName() != want {
			t.Errorf("%s takes its part as another message than %s", row.name, want)
		}
	}
}

// censusVerb is a verb that the API does not have. It counts the matching connections of each hub
// (matched) and the hubs that count (closed). A hub with more than max_matched matches refuses.
//
// A verb needs a field in each oneof of forward.proto. This verb borrows the fields of close and
// gives them another meaning, so that the proto stays as it is.
var censusVerb = verb[*controlv1.CloseConnectionsRequest, *controlv1.CloseConnectionsResponse]{
	wrap: closeVerb.wrap,
	begin: func(
		_ context.Context, h *hub.Hub, req *controlv1.CloseConnectionsRequest, target *hub.Target,
	) (*controlv1.CloseConnectionsResponse, inForce, error) {
		matched := h.Count(form.NamespaceOf(req), target)
		if limit := int(req.GetMaxMatched()); limit > 0 && matched > limit {
			return nil, nil, hub.ErrTooManyMatched
		}
		return newClosed(hub.Closed{Matched: matched, Closed: 1}), nil, nil
	},
	result:  closedResult,
	partOf:  (*peerv1.ForwardResult).GetClose,
	add:     addClosed,
	setGaps: closeVerb.setGaps,
}

func TestAVerbIsAddedWithOneRow(t *testing.T) {
	c := newCluster(t, 2, func(c *Config) {
		c.verbs = verbTable{"close": rowOf(&censusVerb, func(f *peerv1.Forward) []byte {
			return f.GetClose().GetRequest()
		})}
	})
	p := &wireProtocol{}
	few, many := c.hubs[0], c.hubs[1]
	few.connect(t, p, "ann")
	many.connect(t, p, "ann")
	many.connect(t, p, "ann")
	callAt := func(
		f *fixture, req *controlv1.CloseConnectionsRequest,
	) (*controlv1.CloseConnectionsResponse, error) {
		return callEverywhere(t.Context(), f.server.publisher.router, &censusVerb, req)
	}

	for _, f := range c.hubs {
		sum, err := callAt(f, &controlv1.CloseConnectionsRequest{Target: users("ann")})
		hold(t, err, &controlv1.CloseConnectionsResponse{Matched: 3, Closed: 2}, sum)
	}
	// The entry hub is within the limit. Its peer is not.
	_, err := callAt(few, &controlv1.CloseConnectionsRequest{Target: users("ann"), MaxMatched: 1})
	if !errors.Is(err, hub.ErrTooManyMatched) {
		t.Errorf("error %v, want the peer's", err)
	}
	// The rows of the API stand beside the new row, and no connection was closed.
	added, err := few.groups.AddToGroups(t.Context(), &controlv1.AddToGroupsRequest{
		Target: users("ann"), Groups: []string{"g"},
	})
	hold(t, err, &controlv1.AddToGroupsResponse{Matched: 3, Added: 3}, added)
}

// A peer that takes a drain or a rebalance for a call with a target may send it on behind a
// connection that has moved. It is not for the hub of that connection.
func TestACallForAHubDoesNotFollowAConnection(t *testing.T) {
	follows := mesh.Scope{Only: "abcdefgh.x"}
	for name, row := range map[string]verbRow{
		"drain": drainRow(nil), "rebalance": rebalanceRow(nil), // they must not be asked
	} {
		answer := row.execute(t.Context(), nil, &peerv1.Forward{}, follows).Result()
		if answer.GetStatus() == nil {
			t.Errorf("%s: %v", name, answer)
		}
	}
}
