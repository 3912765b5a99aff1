package chaos

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/chaos/verdict"
)

// movesPromised says which moves of connections between hubs are promised.
const movesPromised = verdict.Drains

// excerptLines is how much of the history a failure shows.
const excerptLines = 60

// TestNoScheduleBreaksAPromise runs the schedules of some seeds, and proves that each keeps the
// promises in verdict's table of rules.
func TestNoScheduleBreaksAPromise(t *testing.T) {
	total := map[string]verdict.Hits{}
	for i := range *seedCount {
		seed := *firstSeed + uint64(i)
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			r := openRun(t, newPlan(seed))
			r.playFaults()
			r.finish()
			judge(t, r)
			for fault, hits := range verdict.CountHits(r.record.history()) {
				sum := total[fault]
				total[fault] = verdict.Hits{
					Struck: sum.Struck + hits.Struck, InFlight: sum.InFlight + hits.InFlight,
				}
			}
		})
	}
	for _, fault := range slices.Sorted(maps.Keys(total)) {
		t.Logf("%-14s struck %d times, %d of them while messages were in flight",
			fault, total[fault].Struck, total[fault].InFlight)
	}
	if len(total) == 0 {
		t.Error("no fault struck")
	}
}

// judge reports the violations of a run, and how to repeat it.
func judge(t *testing.T, r *run) {
	t.Helper()
	h := r.record.history()
	kinds := map[verdict.Kind]int{}
	for _, e := range h.Events {
		kinds[e.Kind]++
	}
	t.Logf("%d sends, %d messages, %d links, %d resumes refused, %d joins, %d kicks, "+
		"%d events of ends, %d publishes with acks",
		kinds[verdict.Sent], kinds[verdict.Arrived], kinds[verdict.Connected],
		kinds[verdict.Refused], kinds[verdict.Joined], kinds[verdict.Kicked],
		kinds[verdict.Disconnected], kinds[verdict.Confirmed])
	demanded := verdict.CountDemands(h, movesPromised)
	t.Logf("%d messages had to come: an omission of any would be found", demanded)
	if demanded == 0 {
		t.Error("no message had to come: the run proves nothing")
	}
	for _, v := range verdict.Judge(h, movesPromised) {
		t.Errorf("%s: %s\npromised: %s\n%s",
			v.Rule, v.Text, verdict.Promise(v.Rule), verdict.Excerpt(h, v, excerptLines))
	}
	if t.Failed() {
		t.Logf("the schedule:\n%s\nto repeat it: %s", r.plan, r.plan.repeatLine())
	}
}

func (p *plan) repeatLine() string {
	long := ""
	if bed.Long {
		long = "CONNHUB_TEST_LONG=1 "
	}
	return fmt.Sprintf("%sgo test -count=1 -v ./test/chaos -seeds 1 -seed %d", long, p.seed)
}

func (p *plan) String() string {
	var b strings.Builder
	for i, s := range p.steps {
		fmt.Fprintf(&b, "%3d. after %v, for %v:", i+1, s.after, s.holds)
		for _, f := range s.faults {
			fmt.Fprintf(&b, " %s at %d", f.name, f.place+1)
		}
		b.WriteString("\n")
	}
	return b.String()
}
