package mesh

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/control/mesh/core"
)

// cut is a step of a caller: calls, a pause, then cables break.
type cut struct {
	calls         int
	pause         time.Duration
	control, data bool
}

func TestWhatACutLinkCarriedIsInOrderAndAtMostOnce(t *testing.T) {
	fewChecks(t)
	rapid.Check(t, func(rt *rapid.T) {
		steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) cut {
			pauses := []time.Duration{0, time.Millisecond, 150 * time.Millisecond}
			return cut{
				calls:   rapid.IntRange(0, 40).Draw(rt, "calls"),
				pause:   rapid.SampledFrom(pauses).Draw(rt, "pause"),
				control: rapid.Bool().Draw(rt, "control"), data: rapid.Bool().Draw(rt, "data"),
			}
		}), 1, 6).Draw(rt, "steps")
		waits := rapid.Bool().Draw(rt, "the caller waits for each outcome")
		var problem error
		inBubble(t, func(t *testing.T, b *bubble) { problem = cutLinks(t, b, steps, waits) })
		if problem != nil {
			rt.Fatal(problem)
		}
	})
}

// cutLinks makes a caller send numbered calls while the link breaks, and compares the executed
// calls with the outcomes.
func cutLinks(t *testing.T, b *bubble, steps []cut, waits bool) error {
	x, y := b.start("a"), b.start("b")
	queries := make([]Query, 3)
	for i := range queries {
		k, q := group(fmt.Sprint("group", i))
		y.join(t, k)
		queries[i] = q
	}
	time.Sleep(time.Second)
	sent := 0
	gatherings := make(map[int]*Gathering)
	outcomes := make(map[int]bool) // whether the outcome is known
	call := func() {
		r := x.Route(queries[sent%len(queries)])
		g := x.forward(t.Context(), "me", strconv.Itoa(sent), r.To)
		switch {
		case len(r.To) == 0:
			outcomes[sent] = false
		case waits:
			outcomes[sent] = g.Wait(t.Context())[0].Result != nil
		default:
			gatherings[sent] = g
		}
		sent++
	}
	for _, s := range steps {
		before := x.epoch(y)
		for range s.calls {
			call()
		}
		time.Sleep(s.pause)
		for use, is := range map[string]bool{controlCable: s.control, dataCable: s.data} {
			for _, c := range b.between(x, y, use) {
				if is {
					c.Cut()
				}
			}
		}
		time.Sleep(300 * time.Millisecond)
		if (s.control || s.data) && (x.epoch(y) <= before) {
			return fmt.Errorf("after a cut the epoch is %d, and was %d", x.epoch(y), before)
		}
	}
	for range 10 {
		call()
	}
	for n, g := range gatherings {
		outcomes[n] = g.Wait(t.Context())[0].Result != nil
	}
	synctest.Wait()
	return compare(y.requests(), outcomes, sent)
}

// compare compares the executed calls with the outcomes that the caller got.
func compare(executed []string, known map[int]bool, sent int) error {
	last, done := -1, make(map[int]bool)
	for _, r := range executed {
		n, err := strconv.Atoi(r)
		if err != nil {
			return err
		}
		if n <= last {
			return fmt.Errorf("%d was executed after %d", n, last)
		}
		last, done[n] = n, true
	}
	for n := range sent {
		switch known, ok := known[n]; {
		case !ok:
			return fmt.Errorf("call %d has no outcome", n)
		case known && !done[n]:
			return fmt.Errorf("call %d was not executed, the caller was told that it was", n)
		case !known && n >= sent-10:
			return fmt.Errorf("call %d has no known outcome, though the link is back", n)
		}
	}
	return nil
}

func TestASilentPeerIsSuspectAndHoldsUpNobody(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y, z := b.start("a"), b.start("b"), b.start("c")
		lobby, toLobby := group("lobby")
		y.join(t, lobby)
		z.join(t, lobby)
		epoch := x.epoch(y)
		y.mu.Lock()
		y.hold = newGate()
		y.mu.Unlock()
		time.Sleep(time.Second)
		waiting := x.forward(t.Context(), "me", "waits", x.Route(toLobby).To)
		synctest.Wait()
		began := time.Now()
		b.stall(x, y, false, true) // y hears, and is not heard
		outcomes := waiting.Wait(t.Context())
		took := time.Since(began)
		if outcomes[0].Result != nil || outcomes[1].Result == nil || took > core.SuspectTime {
			t.Errorf("after %v: %v", took, outcomes)
		}
		if s := x.sees(y); s.State != PeerSuspect || x.sees(z).State != PeerLinked {
			t.Errorf("a sees %+v, %+v", s, x.sees(z))
		}
		for n := range 20 {
			began := time.Now()
			r, outcomes := x.send(t.Context(), "me", fmt.Sprint(n), toLobby)
			took := time.Since(began)
			if took > 0 || len(outcomes) != 2 || outcomes[0].Result != nil ||
				outcomes[1].Result == nil || !r.To[0].Suspect {
				t.Fatalf("a send took %v: %v, %v", took, r, outcomes)
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		y.hold.open()
		b.stall(x, y, false, false)
		time.Sleep(200 * time.Millisecond)
		if s := x.sees(y); s.State != PeerLinked || !s.Lease || x.epoch(y) != epoch {
			t.Errorf("bytes flow again, epoch %d → %d: %+v", epoch, x.epoch(y), s)
		}
		if _, outcomes := x.send(t.Context(), "me", "last", toLobby); outcomes[0].Result == nil {
			t.Error("no outcome")
		}
		if got := y.requests(); len(got) != 22 || !slices.IsSortedFunc(got[1:21], compareNumbers) {
			t.Errorf("executed %v", got)
		}
	})
}

func compareNumbers(a, b string) int {
	x, _ := strconv.Atoi(a)
	y, _ := strconv.Atoi(b)
	return x - y
}

func TestALinkThatWasSilentFor10SecondsIsRedialledAndItsRestCountsForNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		lobby, toLobby := group("lobby")
		y.join(t, lobby)
		time.Sleep(time.Second)
		epoch := x.epoch(y)
		control, data := b.between(x, y, controlCable)[0], b.between(x, y, dataCable)[0]
		// y hears probes to the end: only the next hello ends the link for it
		control.Stall(false, true)
		data.Stall(true, false)
		for n := range 10 {
			x.forward(t.Context(), "me", fmt.Sprint("old", n), x.Route(toLobby).To)
		}
		synctest.Wait()
		if data.Held() == 0 || y.count() != 0 {
			t.Fatalf("%d bytes under way, %d executed", data.Held(), y.count())
		}
		time.Sleep(core.LinkTimeout - 200*time.Millisecond)
		if x.epoch(y) != epoch {
			t.Fatal("the link is not given 10 s")
		}
		control.Stall(true, true)
		time.Sleep(500 * time.Millisecond)
		if now := x.epoch(y); now <= epoch {
			t.Fatalf("epoch %d after %d", now, epoch)
		}
		if _, outcomes := x.send(t.Context(), "me", "new", toLobby); outcomes[0].Result == nil {
			t.Error("no outcome on the new link")
		}
		control.Stall(false, false)
		data.Stall(false, false)
		time.Sleep(time.Second)
		if got := y.requests(); !slices.Equal(got, []string{"new"}) {
			t.Errorf("executed %v", got)
		}
		if s := x.sees(y); s.State != PeerLinked || !s.Lease || !y.sees(x).Lease {
			t.Errorf("the new link suffers: %+v", s)
		}
		if n := x.metric(t, "connhub_mesh_links_ended_total", "silent"); n != 1 {
			t.Errorf("%v links ended because of silence", n)
		}
	})
}

// TestNothingOfALinkIsKeptWhenItIsOver: each time hubs come with a new id.
func TestNothingOfALinkIsKeptWhenItIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x := b.start("a")
		for n := range 5 {
			y := b.start(fmt.Sprint("b", n))
			b.unlist(string(y.id))
			if err := y.down(); err != nil {
				t.Fatal(err)
			}
			b.list("nobody", "nowhere:1")
			time.Sleep(3 * time.Second)
			b.unlist("nobody")
			time.Sleep(2 * core.LostGrace)
		}
		x.Mesh.mu.RLock()
		defer x.Mesh.mu.RUnlock()
		peers := x.core.PeerInfos(x.coreTime())
		if n := len(x.out) + len(x.in) + len(x.failing) + len(peers); n != 0 {
			t.Errorf("kept: %d links, %d links of peers, %v, %v", len(x.out), len(x.in), x.failing,
				peers)
		}
	})
}
