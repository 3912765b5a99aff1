package hub

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/cause"
)

// A client takes its connection over twice while a message of it is carried out: the link between
// has read something, and never has the turn.
func TestTurnGoesFromALinkToTheOneThatReplacedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connectAs(t, newHub(t), numbered{}, "ann")
		if !c.Turn(c.link) {
			t.Fatal("the only link has no turn")
		}
		var waits sync.WaitGroup
		var ended atomic.Bool
		for _, want := range []bool{false, true} {
			c.resume(t, c.link.token(t))
			link := c.link
			waits.Go(func() {
				if has := c.Turn(link); has != want || !ended.Load() {
					t.Errorf(
						"turn: %t, want %t; the one before has ended: %t", has, want, ended.Load(),
					)
				}
			})
			synctest.Wait()
		}
		ended.Store(true)
		c.EndTurn()
		waits.Wait()
		c.EndTurn()
		c.Close(cause.Client.CloseStatus())
	})
}

func TestReplyIsForTheLinkWhoseTurnItIs(t *testing.T) {
	c := connectAs(t, newHub(t), numbered{}, "ann")
	reply := func(text string) {
		t.Helper()
		if err := c.Reply(Text, []byte(text)); err != nil {
			t.Error(err)
		}
	}
	c.Turn(c.link)
	reply("a")
	if diff := cmp.Diff([]string{"a"}, c.link.frames()[1:]); diff != "" {
		t.Error(diff)
	}
	c.resume(t, c.link.token(t))
	reply("nobody reads this")
	c.EndTurn()
	c.Turn(c.link)
	reply("b")
	c.EndTurn()
	reply("c")
	if diff := cmp.Diff([]string{"b", "c"}, c.link.frames()[1:]); diff != "" {
		t.Error(diff)
	}
	c.Close(cause.Client.CloseStatus())
}
