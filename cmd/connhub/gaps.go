package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
)

// partial is an answer that names its gaps.
type partial interface {
	GetUnreachableHubs() []string
	GetDiscoveryStaleFor() *durationpb.Duration
}

// printGaps prints the gaps of an answer to stderr.
func (t *terminal) printGaps(p partial) {
	if hubs := p.GetUnreachableHubs(); len(hubs) > 0 {
		_, _ = fmt.Fprintf(t.stderr, "%s outcome unknown at %s: not reached, or no answer in time\n",
			t.err.yellowText("!"), makePrintable(strings.Join(hubs, ", ")))
	}
	t.printStale(p.GetDiscoveryStaleFor())
}

func (t *terminal) printStale(d *durationpb.Duration) {
	if d != nil {
		_, _ = fmt.Fprintf(t.stderr, "%s etcd has not answered for %s: newer hubs may be missing\n",
			t.err.yellowText("!"), d.AsDuration().Round(time.Second))
	}
}

// addHubs joins the missing hubs of the pages of a listing.
func addHubs(all, more []string) []string {
	all = append(all, more...)
	slices.Sort(all)
	return slices.Compact(all)
}
