package control

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

func TestGetConnectionTellsAllThatTheHubKnows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		created := time.Now()
		labels := map[string]string{"plan": "pro", "device": ""}
		c := f.attachAs(t, &ackedProtocol{}, hub.Admission{
			User: "ann", Groups: []string{"red", "blue"}, Claims: &hub.Claims{Labels: labels},
		})
		if err := c.Bind(c); err != nil {
			t.Fatal(err)
		}
		c.SetRoundTrip(30 * time.Millisecond)
		for range 2 {
			f.send(t, &controlv1.SendRequest{Target: users("ann"), Message: text("12345")})
		}
		if err := c.Ack(1); err != nil {
			t.Fatal(err)
		}
		c.stall(true)
		f.send(t, &controlv1.SendRequest{Target: users("ann"), Message: text("12345")})
		resp, err := f.connections.GetConnection(
			t.Context(), &controlv1.GetConnectionRequest{Connection: string(c.ID())},
		)
		if err != nil {
			t.Fatal(err)
		}
		want := &controlv1.Connection{
			Id: string(c.ID()), Namespace: "default", User: "ann", Groups: []string{"red", "blue"},
			Protocol:      "wire",
			RemoteAddress: "127.0.0.1:1234", CreateTime: timestamppb.New(created),
			State:          controlv1.ConnectionState_CONNECTION_STATE_ATTACHED,
			QueuedMessages: 1, QueuedBytes: 6, UnackedMessages: 1, LastAcked: 1,
			RoundTripTime: durationpb.New(30 * time.Millisecond),
			Hub:           string(f.hub.ID()), Labels: labels,
		}
		if diff := cmp.Diff(want, resp.GetConnection(), protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestEachStateOfAConnectionIsTold(t *testing.T) {
	f := newFixture(t)
	connecting := f.attach(t, &wireProtocol{}, "")
	detached := f.connect(t, &ackedProtocol{}, "")
	detached.Unbind(detached, cause.Lost.CloseStatus())
	for state, c := range map[controlv1.ConnectionState]*client{
		controlv1.ConnectionState_CONNECTION_STATE_CONNECTING: connecting,
		controlv1.ConnectionState_CONNECTION_STATE_ATTACHED:   f.connect(t, &wireProtocol{}, ""),
		controlv1.ConnectionState_CONNECTION_STATE_DETACHED:   detached,
	} {
		resp, err := f.connections.GetConnection(
			t.Context(), &controlv1.GetConnectionRequest{Connection: string(c.ID())},
		)
		if err != nil || resp.GetConnection().GetState() != state {
			t.Errorf("%v, %v, want %v", resp, err, state)
		}
		if resp.GetConnection().GetRoundTripTime() != nil {
			t.Errorf("%v: a round trip that nobody measured", state)
		}
	}
}

func TestListConnectionsHasAHundredOnAPageUnlessAsked(t *testing.T) {
	f := newFixture(t)
	for range 101 {
		f.connect(t, &wireProtocol{}, "ann")
	}
	for asked, want := range map[int32]int{0: 100, 1: 1, 1000: 101} {
		resp, err := f.connections.ListConnections(
			t.Context(), &controlv1.ListConnectionsRequest{Target: users("ann"), PageSize: asked},
		)
		if err != nil ||
			len(resp.GetConnections()) != want || (resp.GetNextPageToken() == "") != (want == 101) {
			t.Errorf("page_size %d: %d connections, token %q, %v",
				asked, len(resp.GetConnections()), resp.GetNextPageToken(), err)
		}
	}
}

func TestCloseConnectionsTellsClientsWhatTheBackendSaid(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct {
		code int32
		want uint16
	}{{0, 1000}, {1001, 1001}, {1012, 1012}, {4999, 4999}} {
		client := f.connect(t, &wireProtocol{}, "ann")
		resp, err := f.connections.CloseConnections(t.Context(), &controlv1.CloseConnectionsRequest{
			Target: users("ann"), Code: c.code, Reason: "enough", MaxMatched: 1,
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(
			&controlv1.CloseConnectionsResponse{Matched: 1, Closed: 1}, resp, protocmp.Transform(),
		); diff != "" {
			t.Error(diff)
		}
		if have, want := client.goodbye(t), (cause.CloseStatus{
			Cause: cause.Backend, Code: c.want, Reason: "enough",
		}); have != want {
			t.Errorf("have %v, want %v", have, want)
		}
	}
	resp, err := f.connections.CloseConnections(
		t.Context(), &controlv1.CloseConnectionsRequest{Target: users("ann")},
	)
	if err != nil || resp.GetMatched() != 0 {
		t.Errorf("closed ones: %v, %v", resp, err)
	}
}

func TestEveryEnumOfTheHubHasItsOwnInTheAPI(t *testing.T) {
	if len(waits) != len(controlv1.Wait_name) || len(policies) != len(
		controlv1.OverflowPolicy_name,
	) {
		t.Error("a value of Wait or OverflowPolicy is not translated")
	}
}
