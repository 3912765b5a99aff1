package control

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

func TestListHubsShowsTheHubThatAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.connect(t, &wireProtocol{}, "ann")
		resp, err := f.hubs.ListHubs(t.Context(), &controlv1.ListHubsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		want := &controlv1.ListHubsResponse{Hubs: []*controlv1.Hub{{
			Id: string(f.hub.ID()), Name: "pod-1", Version: "v1.2.3", StartTime: timestamppb.Now(),
			Connections: 1, Self: true, Reachable: true,
		}}}
		if diff := cmp.Diff(want, resp, protocmp.Transform()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestAServerWithoutADrainHasNoDrainHub(t *testing.T) {
	f := newFixture(t)
	f.serve(t)
	stream, err := f.hubs.DrainHub(t.Context(), &controlv1.DrainHubRequest{HubId: "some"})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("got %v, want UNIMPLEMENTED", err)
	}
}
