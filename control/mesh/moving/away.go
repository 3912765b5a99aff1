package moving

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/connhub/connhub/control/mesh/move"
	"github.com/connhub/connhub/hub"
)

const (
	// movesAtOnce is the most connections that MoveAway has on the move at once. Each call of the
	// cluster looks at all of them. Their pace is that of the hubs that take them.
	movesAtOnce = 64
	// busyPause is the time after which a move that could not begin is tried again: the connection
	// is on a different move. Such moves take up to busyTries as long.
	busyPause = 20 * time.Millisecond
	busyTries = 100
	// paceWindow is the time for which the connects of a peer count. A client whose connection has
	// moved comes back soon after, so a peer does not know at once how many are to come.
	paceWindow = time.Second
	// roundMost is the most connections that are moved before peers are asked again.
	roundMost = 256
)

// Away is an order to move connections to linked peers that do not leave.
type Away struct {
	// Connections are those that move, in this order.
	Connections []hub.ConnectionID
	// Rooms asks the linked peers that do not leave for their room, again and again.
	Rooms func(ctx context.Context) []Room
	// By is the time by which all should have moved. Until then peers get as many as they let
	// connect, unless that is too slow. Zero: there is no such time.
	By time.Time
	// Quotas are the most connections for each peer; nil: any number for each.
	Quotas map[hub.ID]int
	// Rate is the most connections in a second; 0: there is no such limit.
	Rate int
	// Moved is called for each connection that has moved, also concurrently.
	Moved func()
}

// MoveAway carries an order out. Peers of a newer generation come first. Each peer gets connections
// in proportion to its places, at the pace at which it lets clients connect. A peer without a place
// gets none.
//
// It returns the number of connections that have moved, when all have moved or no peer takes them,
// or when ctx is done. Moves that are under way then go on: see AwaitMoves.
func (s *Shell) MoveAway(ctx context.Context, a Away) int {
	can := s.hub != nil
	s.Do(func() { can = can && s.config.Links.CanMove() })
	if !can {
		return 0
	}
	m := &mover{
		Away: a, shell: s, slots: make(chan struct{}, movesAtOnce),
		sent: map[hub.ID]int{}, recent: map[hub.ID]int{},
	}
	for left := a.Connections; len(left) > 0 && ctx.Err() == nil; {
		rooms := m.askRooms(ctx, len(left))
		to := m.planRound(rooms, len(left))
		switch {
		case len(to) > 0:
			m.startMoves(ctx, left[:len(to)], to, rooms)
			left = left[len(to):]
		case slices.ContainsFunc(rooms, Room.hasPlaces):
			m.awaitWindow(ctx)
		default:
			left = nil
		}
	}
	m.movers.Wait()
	return int(m.count.Load())
}

// mover carries out an order. All but its goroutines are of MoveAway.
type mover struct {
	Away

	shell  *Shell
	slots  chan struct{} // has an entry for each connection on the move
	movers sync.WaitGroup
	count  atomic.Int64 // connections that have moved

	sent   map[hub.ID]int // connections for each peer so far
	began  time.Time      // of the window
	recent map[hub.ID]int // connections for each peer in the window
	total  int            // their sum
	need   int            // how many must move in the window
}

// askRooms asks peers for their room, and takes off what they have got. left is how many
// connections have not begun to move.
func (m *mover) askRooms(ctx context.Context, left int) []Room {
	if now := time.Now(); now.Sub(m.began) >= paceWindow {
		m.began, m.total = now, 0
		clear(m.recent)
		m.need = 0
		if rest := m.By.Sub(now); !m.By.IsZero() {
			m.need = left
			if rest > paceWindow {
				m.need = int(time.Duration(left)*paceWindow/rest) + 1
			}
		}
	}
	rooms := m.Rooms(ctx)
	for i := range rooms {
		r := &rooms[i]
		r.Connects = max(0, r.Connects-m.recent[r.Hub])
		if m.Quotas != nil {
			r.Places = max(0, min(r.Places, m.Quotas[r.Hub]-m.sent[r.Hub]))
		}
	}
	return rooms
}

// planRound returns the peers of the next connections, and counts them.
func (m *mover) planRound(rooms []Room, left int) (to []hub.ID) {
	count := min(left, roundMost)
	if m.Rate > 0 {
		count = min(count, m.Rate-m.total)
	}
	shares := shareOut(rooms, max(0, count), max(0, m.need-m.total))
	for more := true; more; {
		more = false
		for i := range shares { // in turn, so that each peer begins at once
			if shares[i] > 0 {
				shares[i]--
				more = true
				to = append(to, rooms[i].Hub)
				m.sent[rooms[i].Hub]++
				m.recent[rooms[i].Hub]++
			}
		}
	}
	m.total += len(to)
	return to
}

// awaitWindow waits for the end of the window: then peers let more clients connect.
func (m *mover) awaitWindow(ctx context.Context) {
	timer := time.NewTimer(max(1, time.Until(m.began.Add(paceWindow))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// startMoves starts moves to these peers, and waits for room among the moves. Without quotas a
// connection that its peer refuses goes to a different peer that has places.
func (m *mover) startMoves(
	ctx context.Context, ids []hub.ConnectionID, to []hub.ID, rooms []Room,
) {
	var spare []hub.ID
	for _, r := range rooms {
		if m.Quotas == nil && r.hasPlaces() {
			spare = append(spare, r.Hub)
		}
	}
	for i, id := range ids {
		select {
		case m.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		m.movers.Go(func() {
			defer func() { <-m.slots }()
			isDone := m.moveOnce(ctx, id, to[i])
			for k := 0; k < len(spare) && !isDone && ctx.Err() == nil; k++ {
				if spare[k] != to[i] {
					isDone = m.moveOnce(ctx, id, spare[k])
				}
			}
			if isDone {
				m.count.Add(1)
				m.Moved()
			}
		})
	}
}

// moveOnce moves a connection to a peer. It waits while the connection is on a different move. It
// returns false if the connection does not come to the peer.
func (m *mover) moveOnce(ctx context.Context, id hub.ConnectionID, to hub.ID) (isDone bool) {
	for range busyTries {
		begun, isDone := m.shell.moveTo(ctx, id, to)
		if begun || ctx.Err() != nil {
			return isDone
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return false
		}
	}
	return false
}

// moveTo moves a connection to a peer. begun is false if that can't be now. isDone says that the
// connection is there.
func (s *Shell) moveTo(ctx context.Context, id hub.ConnectionID, to hub.ID) (begun, isDone bool) {
	outcome := make(chan string, 1)
	s.Do(func() {
		if s.watched[id] != nil {
			return
		}
		s.Handle(func(c *move.Core, now time.Duration) (effects []move.Effect) {
			if effects, begun = c.StartMove(now, id, to); begun {
				s.watched[id] = outcome
			}
			return effects
		})
	})
	if !begun {
		return false, false
	}
	select {
	case how := <-outcome:
		return true, how == outcomeDone
	case <-ctx.Done():
		s.Do(func() {
			if s.watched[id] == outcome { // and not that of a later move
				delete(s.watched, id)
			}
		})
		return true, false
	}
}

// moveWaits are the waits for the end of all moves of a hub. They change within Shell.Do.
type moveWaits []chan<- struct{}

// AwaitMoves waits until no connection is on its way from this hub or to it: the hub is then
// needed for no move that has begun. It returns the error of ctx if that is done before.
func (s *Shell) AwaitMoves(ctx context.Context) error {
	over := make(chan struct{})
	s.Do(func() {
		s.waits = append(s.waits, over)
		s.waits.endUnless(s.core.HasMoves())
	})
	select {
	case <-over:
		return nil
	case <-ctx.Done():
		return ctx.Err() // the entry stays until the moves are over: few callers wait
	}
}

// endUnless ends the waits unless there are moves.
func (w *moveWaits) endUnless(hasMoves bool) {
	if hasMoves {
		return
	}
	for _, over := range *w {
		close(over)
	}
	*w = nil
}
