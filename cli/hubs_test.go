package cli

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
)

func TestHubsAreShownAsTheOneThatAnswersSeesThem(t *testing.T) {
	self := &controlv1.Hub{
		Id: "aaaaaaaa", Name: "hub-0", Version: "v1.0.0",
		StartTime:   timestamppb.New(terminaltest.Noon.Add(-time.Hour)),
		Connections: 12, Self: true, Reachable: true, Registered: true, InterestSize: 5,
	}
	testkit.CompareGolden(t, "hubs_single.txt", terminaltest.Render(false, func(
		t *terminal.Terminal,
	) {
		printHubs(t, &controlv1.ListHubsResponse{Hubs: []*controlv1.Hub{self}})
	}))
	self.Zone = "west"
	testkit.CompareGolden(t, "hubs.txt", terminaltest.Render(false, func(t *terminal.Terminal) {
		printHubs(t, &controlv1.ListHubsResponse{
			Cluster: "c", DiscoveryStaleFor: durationpb.New(61 * time.Second),
			Hubs: []*controlv1.Hub{
				self,
				{
					Id: "bbbbbbbb", Name: "hub-1", Version: "v1.0.1", Zone: "east",
					StartTime:   timestamppb.New(terminaltest.Noon.Add(-time.Minute)),
					Connections: 3, Reachable: true, Lease: true, Registered: true, InterestSize: 2,
				},
				{
					Id: "cccccccc", Name: "hub-2", Version: "v1.0.1",
					Reachable: true, Suspect: true, Draining: true, Registered: true,
				},
				{
					Id: "dddddddd", Name: "hub-3", Reachable: true,
					Lease: true, StartTime: timestamppb.New(terminaltest.Noon.Add(-time.Second)),
				},
				{Id: "eeeeeeee", Registered: true},
			},
		})
	}))
}
