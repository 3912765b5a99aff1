package chaos

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/connhub/connhub/test/bed"
)

const (
	places = 3 // of hubs
	// shortestFault and longestFault are in milliseconds. They are far below the 15 s after which
	// hubs forget a peer.
	shortestFault = 300
	longestFault  = 4000
	// longestShortFault is longestFault in the short form.
	longestShortFault = 1500
	longestPause      = 400 // ms, before a fault
	pairs             = 0.3 // share of the steps with a process or a network that have both
)

// plan is the schedule of a run. A seed makes it.
type plan struct {
	seed  uint64
	steps []step
}

// step is a part of the schedule: faults that are in force together.
type step struct {
	after  time.Duration // since the step before
	holds  time.Duration // from the last strike to the first mend
	faults []plannedFault
}

// plannedFault is a fault at a hub or at a member of etcd.
type plannedFault struct {
	name  string
	place int
}

// The faults by what they break. A step has a fault of a process, of a network, of both, or two of
// etcd.
var (
	processFaults = []string{"restart", "kill", "stop", "drain", "rolling restart"}
	networkFaults = []string{
		"cut peers", "stall peers", "slow peers", "cut clients", "drop clients", "strand clients",
		"slow clients",
	}
	etcdFaults = []string{"cut etcd", "kill member", "stall etcd", "stop member"}
)

// rounds are the parts of a round: which faults its steps have.
var rounds = []struct {
	faults   []string
	further  []string // that may strike at the same time
	perRound uint64   // how many steps of a round have these faults
	before   uint64   // how many of them came before in the round
}{
	{processFaults, networkFaults, 2, 0},
	{networkFaults, processFaults, 3, 0},
	{etcdFaults, nil, 1, 0},
	{networkFaults, processFaults, 3, 1},
	{processFaults, networkFaults, 2, 1},
	{networkFaults, processFaults, 3, 2},
}

// newPlan makes the schedule of a seed. Each round takes the faults that follow those of the round
// before it, and the rounds are counted over all seeds. So three seeds have all faults.
func newPlan(seed uint64) *plan {
	random := rand.New(rand.NewPCG(seed, 0))
	p := &plan{seed: seed}
	count := uint64(bed.Either(1, 4))
	for round := seed * count; round < (seed+1)*count; round++ {
		for _, part := range rounds {
			turn := round*part.perRound + part.before
			s := step{
				after: milliseconds(random, 0, longestPause),
				holds: milliseconds(
					random, shortestFault, bed.Either(longestShortFault, longestFault),
				),
			}
			add := func(faults []string, turn uint64) {
				name := faults[turn%uint64(len(faults))]
				s.faults = append(s.faults, plannedFault{name, random.IntN(places)})
			}
			add(part.faults, turn)
			switch {
			case part.further == nil:
				add(part.faults, turn+1)
			case random.Float64() < pairs:
				add(part.further, random.Uint64N(uint64(len(part.further))))
			}
			p.steps = append(p.steps, s)
		}
	}
	if !bed.Long {
		p.shorten()
	}
	return p
}

// shorten makes a plan of about 10 s. Processes that end and networks that break come apart,
// because a hub waits for the network when it starts or stops. The steps with a hub that ends come
// last: until then no connection has an excuse to end. A kill comes behind them: a hub that starts
// behind a kill waits for 15 s, because the killed hub has left its key in etcd.
func (p *plan) shorten() {
	for i := range p.steps {
		s := &p.steps[i]
		if slices.ContainsFunc(s.faults, endsHub) {
			s.faults = s.faults[:1]
		}
	}
	rank := func(s step) int {
		switch {
		case !endsHub(s.faults[0]):
			return 0
		case s.faults[0].name != "kill":
			return 1
		}
		return 2
	}
	slices.SortStableFunc(p.steps, func(a, b step) int { return rank(a) - rank(b) })
}

// endsHub reports whether a fault ends a hub.
func endsHub(f plannedFault) bool { return isOfProcess(f) && f.name != "stop" }

func milliseconds(random *rand.Rand, least, most int) time.Duration {
	return time.Duration(least+random.IntN(most-least)) * time.Millisecond
}

// TestThreeSeedsHaveEveryFault proves that the seeds of `make test` miss no kind of fault.
func TestThreeSeedsHaveEveryFault(t *testing.T) {
	for first := range uint64(20) {
		seen := map[string]bool{}
		for seed := first; seed < first+3; seed++ {
			for _, s := range newPlan(seed).steps {
				for _, f := range s.faults {
					seen[f.name] = true
				}
			}
		}
		for _, kind := range [][]string{processFaults, networkFaults, etcdFaults} {
			for _, name := range kind {
				if !seen[name] {
					t.Errorf("no seed from %d on has %q", first, name)
				}
			}
		}
	}
}

// TestSeedRepeatsItsPlan proves that a seed is enough to repeat a schedule.
func TestSeedRepeatsItsPlan(t *testing.T) {
	for seed := range uint64(20) {
		if a, b := newPlan(seed).String(), newPlan(seed).String(); a != b {
			t.Errorf("seed %d makes two plans:\n%s\n%s", seed, a, b)
		}
	}
	if newPlan(1).String() == newPlan(2).String() {
		t.Error("two seeds make the same plan")
	}
}
