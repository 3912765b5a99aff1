package dial

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/cli/terminal"
)

// Partial is an answer that names its gaps.
type Partial interface {
	GetUnreachableHubs() []string
	GetDiscoveryStaleFor() *durationpb.Duration
}

// PrintGaps prints the gaps of an answer to stderr.
func PrintGaps(t *terminal.Terminal, p Partial) {
	if hubs := p.GetUnreachableHubs(); len(hubs) > 0 {
		_, _ = fmt.Fprintf(t.Stderr,
			"%s outcome unknown at %s: not reached, or no answer in time\n",
			t.Err.YellowText("!"), terminal.MakePrintable(strings.Join(hubs, ", ")))
	}
	PrintStale(t, p.GetDiscoveryStaleFor())
}

// PrintStale prints to stderr that etcd has not answered for d; nil: it has.
func PrintStale(t *terminal.Terminal, d *durationpb.Duration) {
	if d != nil {
		_, _ = fmt.Fprintf(t.Stderr,
			"%s etcd has not answered for %s: newer hubs may be missing\n",
			t.Err.YellowText("!"), d.AsDuration().Round(time.Second))
	}
}

// AddHubs joins the missing hubs of the pages of a listing.
func AddHubs(all, more []string) []string {
	all = append(all, more...)
	slices.Sort(all)
	return slices.Compact(all)
}
