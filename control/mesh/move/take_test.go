package move

import (
	"testing"

	"github.com/connhub/connhub/hub"
)

// moveAway returns the core of hub A, of which c is on the way to B. X and Y have links, too.
func moveAway(t *testing.T) *Core {
	t.Helper()
	c := New(Config{
		Self: "A", Lanes: 1, MaxHeld: 1, MaxHeldBytes: 1, MaxBytes: 1, DoubtTime: doubtTime,
		SizeOf: func(any) int { return 1 },
	})
	for _, peer := range []hub.ID{"B", "X", "Y"} {
		c.HandleAccepted(0, peer, true)
		c.HandleLinked(0, peer)
	}
	if _, begun := c.StartMove(0, "c", "B"); !begun {
		t.Fatal("no move")
	}
	return c
}

// refusals returns the answers to hubs whose clients do not get c.
func refusals(effects []Effect) map[hub.ID]bool {
	isFinal := map[hub.ID]bool{}
	for _, e := range effects {
		if r, ok := e.(Response); ok && r.Message.Kind == Refused {
			isFinal[r.Hub] = r.Message.IsFinal
		}
	}
	return isFinal
}

// TestAWrongTokenDoesNotStandInTheWay of a client that waits for a connection on the move, from
// whatever hub it comes.
func TestAWrongTokenDoesNotStandInTheWay(t *testing.T) {
	for _, from := range []hub.ID{"B", "X", "Y"} {
		c := moveAway(t)
		c.HandleStanding(0, Look{"c", "X", "right"}, Standing{IsProven: true, IsHere: true})
		got := refusals(c.HandleStanding(0, Look{"c", from, "wrong"}, Standing{}))
		if isFinal, is := got[from]; len(got) != 1 || !is || !isFinal {
			t.Errorf("a wrong token at %s: refused are %v", from, got)
		}
		if c.wanted["c"] != (taker{"X", "right"}) {
			t.Errorf("after a wrong token at %s %v waits", from, c.wanted)
		}
		// A hub that has not looked can't tell: the client asks again, and none has to make room.
		got = refusals(c.HandleStanding(0, Look{"c", "Y", "unknown"}, Standing{IsBusy: true}))
		if isFinal, is := got["Y"]; len(got) != 1 || !is || isFinal || c.wanted["c"].hub != "X" {
			t.Errorf("without a look refused are %v, and %v waits", got, c.wanted)
		}
	}
}

// TestATokenMayBeNewerThanTheSeal: the new hub has given it to the client, perhaps. So it is not
// refused for good, but it puts no client aside.
func TestATokenMayBeNewerThanTheSeal(t *testing.T) {
	c := moveAway(t)
	m := Move{ID: ID{"A", 1}, Connection: "c", To: "B", Epoch: 2}
	c.HandleFrozen(0, m.ID, 2, "state")
	c.HandleResponse(0, "B", Message{Kind: Shadowed, Move: m})
	c.HandleTick(MarkTime)
	c.HandleSealed(MarkTime, m.ID, "changes")
	sealed := Standing{At: "B"}
	got := refusals(c.HandleStanding(MarkTime, Look{"c", "X", "newer, or wrong"}, sealed))
	if len(got) != 0 || c.wanted["c"].hub != "X" {
		t.Errorf("refused are %v, and %v waits", got, c.wanted)
	}
	got = refusals(c.HandleStanding(MarkTime, Look{"c", "Y", "wrong, or newer"}, sealed))
	if isFinal, is := got["Y"]; len(got) != 1 || !is || isFinal || c.wanted["c"].hub != "X" {
		t.Errorf("refused are %v, and %v waits", got, c.wanted)
	}
	sealed.IsProven = true
	got = refusals(c.HandleStanding(MarkTime, Look{"c", "Y", "right"}, sealed))
	if isFinal, is := got["X"]; len(got) != 1 || !is || isFinal || c.wanted["c"].hub != "Y" {
		t.Errorf("refused are %v, and %v waits", got, c.wanted)
	}
}

// TestTheLatestClientWithTheRightTokenWaits.
func TestTheLatestClientWithTheRightTokenWaits(t *testing.T) {
	c := moveAway(t)
	right := Standing{IsProven: true, IsHere: true}
	c.HandleStanding(0, Look{"c", "X", "right"}, right)
	got := refusals(c.HandleStanding(0, Look{"c", "Y", "right"}, right))
	if isFinal, is := got["X"]; len(got) != 1 || !is || isFinal || c.wanted["c"].hub != "Y" {
		t.Errorf("refused are %v, and %v waits", got, c.wanted)
	}
}
