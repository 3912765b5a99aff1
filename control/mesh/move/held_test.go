package move

import (
	"slices"
	"testing"

	"github.com/connhub/connhub/hub"
)

// putInDoubt returns the core of hub A, which has sealed a connection for B and has lost B. X has a
// link to A, and no mark.
func putInDoubt(t *testing.T, connections ...hub.ConnectionID) *Core {
	t.Helper()
	c := New(Config{
		Self: "A", Lanes: 1, MaxHeld: 100, MaxHeldBytes: 1000, MaxBytes: 2500,
		DoubtTime: doubtTime, SizeOf: func(body any) int { return body.(int) },
	})
	c.HandleAccepted(0, "X", true)
	c.HandleLinked(0, "B")
	for i, id := range connections {
		if _, begun := c.StartMove(0, id, "B"); !begun {
			t.Fatal("no move")
		}
		m := Move{ID: ID{"A", uint64(i) + 1}, Connection: id, To: "B", Epoch: 2}
		c.HandleFrozen(0, m.ID, 2, "state")
		c.HandleResponse(0, "B", Message{Kind: Shadowed, Move: m})
	}
	for _, e := range c.HandleTick(MarkTime) {
		if s, ok := e.(Seal); ok {
			c.HandleSealed(MarkTime, s.Move.ID, "changes")
		}
	}
	c.HandleLinkLoss(MarkTime, "B")
	return c
}

// callFrom has X call, and returns the answer; nil: the call is held.
func callFrom(c *Core, number uint64, bytes int) *Message {
	for _, e := range c.HandleRequest(MarkTime, "X", Message{
		Kind: Call, Number: number, Body: bytes,
	}) {
		if r, ok := e.(Response); ok && r.Message.Kind == Result {
			return &r.Message
		}
	}
	return nil
}

// TestHeldCallsAreBoundedInBytes: calls above the bound of a connection are answered with the move.
func TestHeldCallsAreBoundedInBytes(t *testing.T) {
	c := putInDoubt(t, "c")
	for i := range uint64(20) {
		answer := callFrom(c, i+1, 300)
		switch {
		case i < 3 && answer != nil:
			t.Errorf("call %d is not held", i)
		case i >= 3 && (answer == nil || len(answer.Moved) != 1 || answer.Body != 300):
			t.Errorf("call %d is answered with %+v", i, answer)
		}
	}
	if callFrom(c, 21, 100) != nil || c.holdings.bytes != 1000 {
		t.Errorf("%d bytes are held", c.holdings.bytes)
	}
}

// TestAHubBoundsTheBytesOfAllHeldCalls: a call that waits for several connections counts once.
func TestAHubBoundsTheBytesOfAllHeldCalls(t *testing.T) {
	all := []hub.ConnectionID{"c", "d", "e"}
	c := putInDoubt(t, all...)
	if callFrom(c, 1, 900) != nil || c.holdings.bytes != 900 {
		t.Fatalf("%d bytes are held for three connections", c.holdings.bytes)
	}
	c.holdings.config.MaxHeldBytes = 1 << 20 // the other bound
	if callFrom(c, 2, 1600) != nil || c.holdings.bytes != 2500 {
		t.Fatalf("%d bytes are held", c.holdings.bytes)
	}
	answer := callFrom(c, 3, 1)
	if answer == nil || len(answer.Moved) != len(all) {
		t.Fatalf("a call above the bound is answered with %+v", answer)
	}
	// The end of a link frees nothing: a connection may go on here, and gets the calls.
	c.HandleLinkEnd(MarkTime, "X")
	effects := c.HandleTick(MarkTime + doubtTime)
	if c.holdings.bytes != 0 || !slices.ContainsFunc(effects, isRelease) {
		t.Errorf("%d bytes are held after the end: %v", c.holdings.bytes, effects)
	}
}

func isRelease(e Effect) bool {
	_, is := e.(Release)
	return is
}
