package move

import (
	"runtime"
	"testing"

	"github.com/connhub/connhub/hub"
)

// asked returns the hubs that are asked for c.
func asked(effects []Effect) (hubs []hub.ID) {
	for _, e := range effects {
		if r, ok := e.(Request); ok && r.Message.Kind == Take {
			hubs = append(hubs, r.Hub)
		}
	}
	return hubs
}

// TestADeadHubIsNoAnswer: a holder names a hub that is dead. The connection may have moved on from
// there, so the other peers are asked, too, before the client is refused for good.
func TestADeadHubIsNoAnswer(t *testing.T) {
	c := moveAway(t)
	c.HandleLinkLoss(0, "D")
	c.HandleDeath(0, "D")
	named := Move{Connection: "d"}
	ask := func(effects []Effect, want hub.ID) {
		t.Helper()
		if got := asked(effects); len(got) != 1 || got[0] != want {
			t.Fatalf("asked are %v, want %s", got, want)
		}
	}
	ask(c.StartTake(0, "d", "X", "proof"), "X")
	ask(c.HandleResponse(0, "X", Message{Kind: Elsewhere, Move: named, Hub: "D"}), "B")
	ask(c.HandleResponse(0, "B", Message{Kind: Refused, Move: named, IsFinal: true}), "Y")
	// Meanwhile it has moved to a hub that had nothing.
	ask(c.HandleResponse(0, "Y", Message{Kind: Elsewhere, Move: named, Hub: "B"}), "B")
	effects := c.HandleResponse(0, "B", Message{Kind: Refused, Move: named, IsFinal: true})
	want := Refuse{Connection: "d", IsFinal: true, IsSearched: true}
	if len(effects) != 1 || effects[0] != want {
		t.Errorf("at the end: %v, want %v", effects, want)
	}
}

// TestTheDeadAreForgotten: hubs come and go for ever.
func TestTheDeadAreForgotten(t *testing.T) {
	c := moveAway(t)
	for i := range 3 * mostDeaths {
		c.HandleDeath(0, hub.ID(rune('α'+i)))
	}
	if len(c.dead.known) != mostDeaths || len(c.dead.order) != mostDeaths {
		t.Errorf("%d and %d dead hubs", len(c.dead.known), len(c.dead.order))
	}
	if !c.dead.hasHub(hub.ID(rune('α' + 3*mostDeaths - 1))) {
		t.Error("the last is forgotten")
	}
}

// TestAClientsCommandDoesNotDelayAMoveForEver.
func TestAClientsCommandDoesNotDelayAMoveForEver(t *testing.T) {
	c := moveAway(t)
	c.HandleStanding(0, Look{"c", "X", "right"}, Standing{IsProven: true, IsHere: true})
	if at := c.NextDeadline(); at != FreezeTime {
		t.Fatalf("the next deadline is %v", at)
	}
	effects := c.HandleTick(FreezeTime)
	if _, is := effects[0].(Thaw); !is || c.HasMoves() {
		t.Errorf("at the deadline: %v", effects)
	}
	if _, is := refusals(effects)["B"]; !is {
		t.Errorf("the hub that wants it is not told: %v", effects)
	}
}

// TestTheEndOfAMoveDoesNotSortAllCalls: it is in the gate, so no call begins meanwhile.
func TestTheEndOfAMoveDoesNotSortAllCalls(t *testing.T) {
	c := moveAway(t)
	const calls = 20_000
	for range calls {
		c.StartCall(0, 0, []hub.ID{"B"}, 1)
	}
	m := Move{ID: ID{"X", 1}, Connection: "d", To: "Y"}
	c.HandleResponse(0, "Y", Message{Kind: Announce, Move: m})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	c.HandleResponse(0, "Y", Message{Kind: Done, Move: m})
	runtime.ReadMemStats(&after)
	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > calls {
		t.Errorf("%d bytes for %d open calls", bytes, calls)
	}
	if len(c.marks) != 0 || len(c.calls) != calls {
		t.Errorf("%d marks, %d calls", len(c.marks), len(c.calls))
	}
}
