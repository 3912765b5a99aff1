package dial

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
)

func TestAnswersSayWhatTheyCouldNotKnow(t *testing.T) {
	testkit.CompareGolden(t, "gaps.txt", terminaltest.Render(false, func(t *terminal.Terminal) {
		PrintGaps(t, &controlv1.AddToGroupsResponse{})
		PrintGaps(t, &controlv1.Receipt{
			UnreachableHubs:   []string{"aaaaaaaa", "bbbbbbbb"},
			DiscoveryStaleFor: durationpb.New(3 * time.Second),
		})
	}))
}
