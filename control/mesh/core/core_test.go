package core

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"buf.build/go/protovalidate"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub"
)

func isReady(e Effect) bool {
	_, ok := e.(Ready)
	return ok
}

func addressOf(t *testing.T, c *Core, id string) string {
	t.Helper()
	for _, i := range c.PeerInfos(c.now) {
		if string(i.Hub) == id {
			return i.Address
		}
	}
	t.Fatalf("no hub %s", id)
	return ""
}

// TestTimeNeverGoesBack: callers read the clock, then wait for their turn. If such a caller could
// date the latest answer back, a join would return while the lease runs.
func TestTimeNeverGoesBack(t *testing.T) {
	c := pairOf(t)
	probe := func(now time.Duration, number uint64) {
		c.HandleRequest(now, "B", 1, &peerv1.ControlRequest{
			Body: &peerv1.ControlRequest_Probe{Probe: &peerv1.Probe{Number: number}},
		})
	}
	probe(time.Second, 1)
	probe(time.Second-time.Millisecond, 2)
	if got := c.peers["B"].grant.last; got != time.Second {
		t.Errorf("the last answer was at %v", got)
	}
}

// TestNobodyIsReadyBeforeTheFirstList: a hub that starts while etcd is away knows no peer, which
// does not mean that it is alone.
func TestNobodyIsReadyBeforeTheFirstList(t *testing.T) {
	c := New(Config{Us: helloOf("A", "", 0), HashBits: HashBits})
	if got := c.HandleTick(2 * readyWait); slices.ContainsFunc(got, isReady) {
		t.Error("ready without a list")
	}
	c.HandleHello(2*readyWait, helloOf("B", "A", 1))
	c.HandleLinked(2*readyWait, "B", 1, helloOf("B", "A", 1))
	if got := c.HandleTick(4 * readyWait); slices.ContainsFunc(got, isReady) {
		t.Error("ready without a list, with a link")
	}
	if got := c.HandleKeys(4*readyWait, nil, nil); slices.ContainsFunc(got, isReady) {
		t.Error("ready by a list that is older than its own key: " +
			"a hub may be ready that has come before it")
	}
	got := c.HandleKeys(4*readyWait, []Listed{{"A", "a:1"}}, nil)
	if !slices.ContainsFunc(got, isReady) {
		t.Errorf("listed, and not ready: %v", got)
	}
}

// TestTheAddressIsThatOfTheKey, or else of the hello, or else of a peer's word.
func TestTheAddressIsThatOfTheKey(t *testing.T) {
	c := New(Config{Us: helloOf("A", "", 0), HashBits: HashBits})
	c.HandleKeys(0, []Listed{{"B", "b:1"}}, nil)
	h := helloOf("B", "A", 1)
	h.Members = []*peerv1.Member{
		{Hub: "B", Address: "b:9"}, {Hub: "C", Address: "c:9"}, {Hub: "D"}, {Address: "e:9"},
	}
	c.HandleLinked(0, "B", 1, h)
	b, d := addressOf(t, c, "B"), addressOf(t, c, "C")
	if b != "b:1" || d != "c:9" || len(c.peers) != 2 {
		t.Errorf("by word: B at %s, C at %s, %d hubs", b, d, len(c.peers))
	}
	c.HandleKeys(0, []Listed{{"B", "b:1"}, {"E", "e:1"}}, nil)
	c.HandleLinked(0, "E", 3, &peerv1.Hello{
		Self:     &peerv1.Identity{Cluster: "c", Hub: "E"},
		Expected: &peerv1.Identity{Cluster: "c", Hub: "A"}, Epoch: 3,
		ProtocolMin: ProtocolMin, ProtocolMax: ProtocolMax, Address: "e:1",
		Members: []*peerv1.Member{{Hub: "B", Address: "b:9"}, {Hub: "C", Address: "c:7"}},
	})
	if b, d := addressOf(t, c, "B"), addressOf(t, c, "C"); b != "b:1" || d != "c:9" {
		t.Errorf("by another word: B at %s, C at %s", b, d)
	}
	for _, id := range []string{"B", "C"} {
		h := helloOf(id, "A", 1)
		h.Address = id + ":hello"
		c.HandleHello(0, h)
	}
	if b, d := addressOf(t, c, "B"), addressOf(t, c, "C"); b != "b:1" || d != "C:hello" {
		t.Errorf("by hello: B at %s, C at %s", b, d)
	}
	c.HandleKeys(0, []Listed{{"B", "b:2"}, {"C", "c:1"}}, nil)
	if b, d := addressOf(t, c, "B"), addressOf(t, c, "C"); b != "b:2" || d != "c:1" {
		t.Errorf("by key: B at %s, C at %s", b, d)
	}
}

// TestAHelloNotAboveTheHighestIsRefused: a hello that comes twice, or late while a later hello
// waits.
func TestAHelloNotAboveTheHighestIsRefused(t *testing.T) {
	c := pairOf(t)
	for _, step := range []struct {
		epoch uint64
		stale bool
	}{{1, true}, {4, false}, {4, true}, {3, true}, {5, false}} {
		got := c.HandleHello(0, helloOf("B", "A", step.epoch))
		stale := slices.ContainsFunc(got, func(e Effect) bool {
			r, ok := e.(Refuse)
			return ok && r.Epoch == step.epoch &&
				r.Reason == peerv1.RefusalReason_REFUSAL_REASON_STALE_EPOCH
		})
		if stale != step.stale {
			t.Errorf("epoch %d: %v", step.epoch, got)
		}
	}
	got := c.HandleLinkEnd(0, "B", 1)
	if a, ok := got[0].(Accept); !ok || a.Hello.GetEpoch() != 5 {
		t.Errorf("%v", got)
	}
}

// TestAReportOfTheWrongKindEndsNeitherLinkNorDial: a link can't fail as a dial any more, and a dial
// can't be lost as a link.
func TestAReportOfTheWrongKindEndsNeitherLinkNorDial(t *testing.T) {
	c := pairOf(t)
	c.HandleDialFailure(0, "B", 1, DialAbsent)
	if c.findLinked("B", 1) == nil {
		t.Error("a link failed as a dial")
	}
	c.HandleLinkLoss(0, "B", 1)
	c.HandleTick(time.Second)
	c.HandleLinkLoss(time.Second, "B", 2)
	if c.findDial("B", 2) == nil {
		t.Error("a dial was lost as a link")
	}
}

// TestARouteLeavesItsQueryAlone: routes run at the same time, and the caller may use its query
// again.
func TestARouteLeavesItsQueryAlone(t *testing.T) {
	c := New(Config{Us: helloOf("A", "", 0), HashBits: 8})
	hashes := []Hash{0x1234}
	if c.FindRoute(nil, 0, Query{Hashes: hashes}); hashes[0] != 0x1234 {
		t.Errorf("%x", hashes[0])
	}
}

// TestAbsentIsWhatTheLastDialFound: a hub that was absent at a dial is dialled again like any hub.
func TestAbsentIsWhatTheLastDialFound(t *testing.T) {
	c := New(Config{Us: helloOf("A", "", 0), HashBits: HashBits})
	c.HandleKeys(0, []Listed{{"B", "b:1"}}, nil)
	c.HandleDialFailure(0, "B", 1, DialAbsent)
	c.HandleTick(time.Second)
	c.HandleDialFailure(time.Second, "B", 2, dialUnproven)
	c.HandleKeys(time.Second, nil, nil)
	if r := c.FindRoute(nil, time.Second, Query{}); len(r.Unreachable) != 1 {
		t.Errorf("%+v", r)
	}
}

// TestWhoDialsIsDialledBackAtOnce, however long the back-off: a new hub that was listed before it
// could be reached must not wait for the back-off.
func TestWhoDialsIsDialledBackAtOnce(t *testing.T) {
	c := New(Config{Us: helloOf("A", "", 0), HashBits: HashBits})
	c.HandleKeys(0, []Listed{{"A", "a:1"}, {"B", "b:1"}}, nil)
	now := time.Duration(0)
	for epoch := uint64(1); epoch <= 8; epoch++ {
		c.HandleDialFailure(now, "B", epoch, DialAbsent)
		now = c.NextDeadline()
		c.HandleTick(now)
	}
	c.HandleDialFailure(now, "B", 9, DialAbsent)
	got := c.HandleHello(now+time.Millisecond, helloOf("B", "A", 1))
	if !slices.ContainsFunc(got, func(e Effect) bool { _, ok := e.(Dial); return ok }) {
		t.Errorf("%v, and the next dial in %v", got, c.peers["B"].redial-now)
	}
}

// TestAnAnswerSpeaksOfChangesThatWereTold, within the window for that. Otherwise a storm of new
// names, each unconfirmed for a round trip, would leave a peer without a lease all the time.
func TestAnAnswerSpeaksOfChangesThatWereTold(t *testing.T) {
	c := pairOf(t)
	for i := range feedWindow + 3 {
		c.AddReference(time.Second, spread(i))
	}
	var told uint64
	probe := &peerv1.ControlRequest_Probe{Probe: &peerv1.Probe{Number: 1}}
	for _, e := range c.HandleRequest(time.Second, "B", 1, &peerv1.ControlRequest{Body: probe}) {
		r, ok := e.(Response)
		if !ok {
			continue
		}
		if m := r.Message.GetInterest(); m != nil {
			told = m.GetVersion()
		}
		if a := r.Message.GetProbeAnswer(); a != nil && a.GetInterestVersion() != told {
			t.Errorf("the answer speaks of version %d, told is %d", a.GetInterestVersion(), told)
		}
	}
	if told != c.interest.version {
		t.Errorf("told %d of %d changes", told, c.interest.version)
	}
}

// TestWhatBreaksTheRulesInEtcdSpoilsNoHello: a key that breaks the rules is left out of hellos.
func TestWhatBreaksTheRulesInEtcdSpoilsNoHello(t *testing.T) {
	c := New(Config{Us: helloOf("A", "", 0), HashBits: HashBits})
	all := []Listed{
		{hub.ID(strings.Repeat("x", maxHubID+1)), "x:1"},
		{"C", strings.Repeat("y", maxAddress+1)},
		{"D", ""},
	}
	for i := range maxMembers + 10 {
		all = append(all, Listed{hub.ID(fmt.Sprint("h", i)), "h:1"})
	}
	c.HandleKeys(0, all, nil)
	for _, e := range c.HandleHello(0, helloOf("B", "A", 1)) {
		if a, ok := e.(Accept); ok {
			if err := protovalidate.Validate(a.Hello); err != nil {
				t.Errorf("%.200v", err)
			}
			return
		}
	}
	t.Error("not accepted")
}

// TestTwoThatCanNotAgreeDoNotSpurEachOtherOn: a dialler is dialled back at once, but only once
// until a probe is answered.
func TestTwoThatCanNotAgreeDoNotSpurEachOtherOn(t *testing.T) {
	c := New(Config{Us: helloOf("A", "", 0), HashBits: HashBits})
	c.HandleKeys(0, []Listed{{"B", "b:1"}}, nil)
	dials := 0
	count := func(all []Effect) {
		for _, e := range all {
			if d, ok := e.(Dial); ok {
				dials++
				all = append(all,
					c.HandleDialFailure(c.now, "B", d.Hello.GetEpoch(), dialUnproven)...)
			}
		}
	}
	for i := range 100 { // in 10 s B dials a hundred times
		now := time.Duration(i) * 100 * time.Millisecond
		count(c.HandleTick(now))
		count(c.HandleHello(now, helloOf("B", "A", uint64(i+1))))
		count(c.HandleLinkEnd(now, "B", uint64(i+1)))
	}
	if dials > 12 {
		t.Errorf("dialled %d times", dials)
	}
}

// TestWhoLooksForAnotherHubIsNotToldThatItLeft.
func TestWhoLooksForAnotherHubIsNotToldThatItLeft(t *testing.T) {
	c := New(Config{Us: helloOf("A", "", 0), HashBits: HashBits})
	c.GoAway(0, true)
	for expected, want := range map[string]peerv1.RefusalReason{
		"X": peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB,
		"A": peerv1.RefusalReason_REFUSAL_REASON_SHUTTING_DOWN,
	} {
		got := c.HandleHello(0, helloOf("B", expected, 1))
		if r, ok := got[0].(Refuse); !ok || r.Reason != want {
			t.Errorf("who expects %s is told %v", expected, got)
		}
	}
}

// TestManyThatFadeAtOnceHoldUpNoTick.
func TestManyThatFadeAtOnceHoldUpNoTick(t *testing.T) {
	var n interest
	for i := range 3 * fadeLimit {
		n.addReference(spread(i))
		n.removeReference(0, spread(i))
	}
	for left := 3 * fadeLimit; left > 0; left -= fadeLimit {
		if n.len != left || n.nextDeadline() > lingerTime {
			t.Errorf("%d of %d are left, the next at %v", n.len, left, n.nextDeadline())
		}
		n.removeFaded(lingerTime)
	}
	if n.len != 0 {
		t.Errorf("%d are left", n.len)
	}
}
