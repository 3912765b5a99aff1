package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

// resumable is a protocol whose connections can move.
var resumable = framing.WebSocket(webpubsub.ReliableJSON{})

// refuge is a hub to which connections of a different hub move.
type refuge struct {
	from, to *hub.Hub
	pace     time.Duration // of a move
	opens    time.Time     // it takes no connection before
	asked    int           // how many times it was asked for all
}

// move implements moveFunc.
func (r *refuge) move(ctx context.Context, ids []hub.ConnectionID, moved func()) (count int) {
	r.asked++
	for _, id := range ids {
		select {
		case <-time.After(r.pace):
		case <-ctx.Done():
			return count
		}
		if !time.Now().Before(r.opens) && r.moveOne(ctx, id) == nil {
			count++
			moved()
		}
	}
	return count
}

func (r *refuge) moveOne(ctx context.Context, id hub.ConnectionID) error {
	old, taker := r.from.Moves(), r.to.Moves()
	s, err := old.Freeze(ctx, id, r.to.ID())
	if err != nil {
		return err
	}
	err = taker.Adopt(s, s.Epoch+1, resumable)
	changes, sealed := old.Seal(id)
	err = errors.Join(err, sealed)
	for _, op := range changes {
		err = errors.Join(err, taker.Apply(id, op))
	}
	_, released := old.Release(id, cause.Moved.CloseStatus())
	return errors.Join(err, taker.Commit(id), released)
}

// attachResumable attaches connections that can move, with timed links.
func attachResumable(t *testing.T, h *hub.Hub, count int) (links []*timed) {
	t.Helper()
	for range count {
		c, err := h.Attach(t.Context(), hub.Admission{
			Namespace: hub.DefaultNamespace, Protocol: resumable, Groups: []string{"g"},
		})
		if err != nil {
			t.Fatal(err)
		}
		l := &timed{}
		if err := c.Bind(l); err != nil {
			t.Fatal(err)
		}
		links = append(links, l)
	}
	return links
}

// flight is an exodus to a refuge, and its counts.
type flight struct {
	*exodus
	*refuge
	began         time.Time
	moves, closes int
}

func newFlight(t *testing.T, period time.Duration) *flight {
	t.Helper()
	from := newHub(t)
	f := &flight{refuge: &refuge{from: from, to: newHub(t)}, began: time.Now()}
	f.exodus = &exodus{
		hub: from, period: period, move: f.refuge.move,
		moved:  func() { f.moves++ },
		closed: func(count int) { f.closes += count },
	}
	return f
}

// require runs the exodus, and proves that its counts are true.
func (f *flight) require(t *testing.T, moves, closes int, took time.Duration) {
	t.Helper()
	f.run(t.Context())
	if f.moves != moves || f.to.Len() != moves || f.closes != closes || f.from.Len() != 0 {
		t.Errorf("%d moved and %d closed, %d are left, %d at the new hub; want %d and %d",
			f.moves, f.closes, f.from.Len(), f.to.Len(), moves, closes)
	}
	if got := time.Since(f.began); got < took-time.Second || got > took {
		t.Errorf("done after %v, want %v or up to a second less", got, took)
	}
}

// between returns when the first and the last of links was closed.
func (f *flight) between(links []*timed) (first, last time.Duration) {
	first = links[0].closed.Sub(f.began)
	for _, l := range links {
		first = min(first, l.closed.Sub(f.began))
		last = max(last, l.closed.Sub(f.began))
	}
	return first, last
}

func TestADrainMovesResumableConnectionsWhileItClosesTheOthersEvenly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period = 30 * time.Second
		f := newFlight(t, period)
		f.pace = 5 * time.Millisecond
		moving := attachResumable(t, f.from, 1000)
		_, plain := attachTimed(t, f.from, 200)
		f.require(t, 1000, 200, period)
		if _, last := f.between(moving); last != 5*time.Second {
			t.Errorf("the last has moved after %v, want the pace of the new hub", last)
		}
		requireEven(t, plain, f.began, period)
	})
}

func TestADrainOfResumableConnectionsTakesOnlyAsLongAsTheirMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlight(t, time.Hour)
		f.pace = time.Millisecond
		attachResumable(t, f.from, 5000)
		f.require(t, 5000, 0, 5*time.Second)
	})
}

func TestConnectionsThatNoHubTakesAreClosedLastWithinThePeriod(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period = 10 * time.Second
		f := newFlight(t, period)
		f.opens = f.began.Add(time.Hour)
		stuck := attachResumable(t, f.from, 100)
		_, plain := attachTimed(t, f.from, 100)
		f.require(t, 0, 200, period)
		_, last := f.between(plain)
		if first, _ := f.between(stuck); first < last || first < period*3/4 {
			t.Errorf("the first close of a resumable connection comes after %v, "+
				"the last of a plain one after %v", first, last)
		}
		requireEven(t, plain, f.began, period/2)
		requireEven(t, stuck, f.began.Add(period*3/4), period/4)
		if f.asked > 6 {
			t.Errorf("asked %d times, want longer and longer pauses", f.asked)
		}
	})
}

func TestADrainTriesToMoveUntilTheClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period = 30 * time.Second
		f := newFlight(t, period)
		f.opens = f.began.Add(3 * time.Second) // for instance a hub that starts
		attachResumable(t, f.from, 100)
		_, plain := attachTimed(t, f.from, 100)
		f.require(t, 100, 100, period)
		if _, last := f.between(plain); last > period {
			t.Errorf("the last close comes after %v", last)
		}
	})
}

func TestADrainMovesConnectionsThatComeLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlight(t, 10*time.Second)
		attachTimed(t, f.from, 100)
		// as a move of a hub that does not know yet that this one leaves
		time.AfterFunc(2*time.Second, func() { attachResumable(t, f.from, 20) })
		f.require(t, 20, 100, 10*time.Second)
	})
}

// A connection whose client connects just now, or that moves here, is in no list. The drain waits
// for it, and moves it.
func TestADrainWaitsForAConnectionThatIsComing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const period = 30 * time.Second
		f := newFlight(t, period)
		attachResumable(t, f.from, 10)
		source := newHub(t)
		attachResumable(t, source, 1)
		_, all := source.DrainOrder()
		id := all[0].ID()
		old, here := source.Moves(), f.from.Moves()
		s, err := old.Freeze(t.Context(), id, f.from.ID())
		if err != nil {
			t.Fatal(err)
		}
		if err := here.Adopt(s, s.Epoch+1, resumable); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(3*time.Second, func() {
			_, err := old.Seal(id)
			if err = errors.Join(err, here.Commit(id)); err != nil {
				t.Error(err)
			}
		})
		f.require(t, 11, 0, 4*time.Second)
	})
}

func TestMovesEndWithThePeriod(t *testing.T) {
	for _, period := range []time.Duration{0, 5 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			f := newFlight(t, period)
			f.pace = time.Second
			attachResumable(t, f.from, 100)
			attachTimed(t, f.from, 10)
			f.run(t.Context())
			if most := int(period / time.Second); f.moves > most || f.moves < most-1 {
				t.Errorf("%d moved in %v", f.moves, period)
			}
			if f.moves+f.closes != 110 || f.from.Len() != 0 || time.Since(f.began) != period {
				t.Errorf("%d moved and %d closed, %d are left after %v", f.moves, f.closes,
					f.from.Len(), time.Since(f.began))
			}
		})
	}
}

func TestAnExodusEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFlight(t, time.Hour)
		f.pace = time.Second
		attachResumable(t, f.from, 100)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		f.run(ctx)
		if took := time.Since(f.began); took != 10*time.Second || f.closes != 0 {
			t.Errorf("done after %v with %d closed", took, f.closes)
		}
		if f.moves < 9 || f.moves+f.from.Len() != 100 {
			t.Errorf("%d moved, %d left", f.moves, f.from.Len())
		}
	})
}
