package move

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/connhub/connhub/hub"
)

// world is a cluster without network and clock: real cores, queues as links between them, dumb
// connections, and a client for each. It knows the truth, and checks the promises in each step.
type world struct {
	now   time.Duration
	lanes int
	fail  func(format string, args ...any)
	trace func(format string, args ...any)
	wrong faults
	// isFiltered: hubs leave a peer out of calls until they have heard of its interest.
	isFiltered bool
	// isFreezeSlow: Freeze waits for the client's command.
	isFreezeSlow bool
	// isLazy: a core hears of calls only while a move concerns its hub.
	isLazy bool

	nodes   []*node
	links   map[pair]*link
	clients map[hub.ConnectionID]*client
	sends   map[sendKey]*sent
	grants  []string       // that have returned, with a known outcome
	unsure  []string       // grants without a known outcome
	callers map[Origin]int // calls so far
	groups  map[groupKey]*membership
}

type pair struct{ from, to hub.ID }

// node is a hub process: a core, and a dumb shell around it.
type node struct {
	world      *world
	id         hub.ID
	core       *Core
	dead       bool
	isDeclared bool                       // dead, and the others know it
	conns      map[hub.ConnectionID]*conn // in the tables, or sealed
	shadows    map[hub.ConnectionID]*conn
	stones     map[hub.ConnectionID]hub.ID // tombstones
	calls      map[uint64]request          // that have not finished
	fenced     []pair                      // links that are to end
	interested map[hub.ID]bool             // peers that this hub knows to have interest
	freezing   []Move                      // the client's command is not done
	quick      map[uint64]*quickCall       // that the core has not heard of
}

// phase is the stage of a connection at a hub.
type phase uint8

const (
	live phase = iota
	moving
	inDoubt
)

// state is all that a dumb connection is, apart from its link.
type state struct {
	epoch    uint32
	outbox   []string // not confirmed by the client
	numbered int      // messages of outbox with a sequence id
	acked    int
	groups   []string
	grants   []string
	done     []int // commands of the client
	events   int
	dropped  int      // messages that hubs have dropped
	history  []string // all messages that were ever pushed, for the checks
	last     map[Origin]int
}

// conn is a connection at a hub.
type conn struct {
	state

	phase    phase
	attached bool
	changes  []request // since the snapshot
	ended    bool      // closed since the seal
	sealedAt time.Duration
}

// request is a call of a backend.
type request struct {
	verb   verb
	caller Origin
	number int    // among those of the caller
	group  string // of a join or a leave, or the target of a send; empty: every connection
}

type verb uint8

const (
	send verb = iota
	join
	leave
	grant
	closes
	drops    // no call: the hub drops the first message without a number
	detaches // no call: the client's link is lost
)

var verbNames = [...]string{"send", "join", "leave", "grant", "close", "drop", "detach"}

func (r request) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s", r.name(), r.group))
}

func (r request) name() string {
	return fmt.Sprintf("%s %s%d.%d", verbNames[r.verb], r.caller.Hub, r.caller.Lane, r.number)
}

// message is the payload of a send.
func (r request) message() string {
	return fmt.Sprintf("%s%d.%d", r.caller.Hub, r.caller.Lane, r.number)
}

func newWorld(lanes int, ids ...hub.ID) *world {
	w := &world{
		lanes: lanes, links: map[pair]*link{}, clients: map[hub.ConnectionID]*client{},
		sends: map[sendKey]*sent{}, callers: map[Origin]int{},
		groups: map[groupKey]*membership{},
		trace:  func(string, ...any) {},
	}
	for _, id := range ids {
		w.nodes = append(w.nodes, &node{
			world: w, id: id, core: New(Config{
				Self: id, Lanes: lanes, DoubtTime: doubtTime, MaxHeld: mostHeld,
				MaxHeldBytes: mostHeldBytes, MaxBytes: mostBytes, SizeOf: sizeOf,
			}),
			conns: map[hub.ConnectionID]*conn{}, shadows: map[hub.ConnectionID]*conn{},
			stones: map[hub.ConnectionID]hub.ID{}, calls: map[uint64]request{},
			interested: map[hub.ID]bool{}, quick: map[uint64]*quickCall{},
		})
	}
	return w
}

const (
	// mostHeld is more than most schedules hold.
	mostHeld = 6
	// The bytes of a call are few: see sizeOf. Sends reach the bound before the number of calls.
	mostHeldBytes, mostBytes = 10, 16
	// doubtTime is longer than a client waits.
	doubtTime = 10 * time.Second
)

// sizeOf returns the bytes of a call: of a send 2, of others 1.
func sizeOf(body any) int {
	if body.(request).verb == send {
		return 2
	}
	return 1
}

// joinAll sets all links up.
func (w *world) joinAll() {
	for _, p := range w.pairs() {
		w.dial(p)
	}
	for _, p := range w.pairs() {
		w.deliverAll(p)
	}
}

// hasInterest reports whether a hub has, or is about to have, or has had connections.
func (n *node) hasInterest() bool {
	return len(n.conns)+len(n.shadows)+len(n.stones) > 0 || n.id == n.world.nodes[0].id
}

// connect creates a connection at a hub, with a client.
func (w *world) connect(n *node, c hub.ConnectionID) {
	n.conns[c] = &conn{state: state{epoch: 1, last: map[Origin]int{}}, attached: true}
	w.clients[c] = &client{world: w, id: c, born: n.id, at: n.id}
}

func (w *world) node(id hub.ID) *node {
	for _, n := range w.nodes {
		if n.id == id {
			return n
		}
	}
	w.fail("no hub %s", id)
	return nil
}

// perform carries the effects of a core out.
func (n *node) perform(effects []Effect) {
	for _, e := range effects {
		n.performEffect(e)
	}
}

func (n *node) performEffect(e Effect) {
	w := n.world
	switch e := e.(type) {
	case Request:
		if w.wrong.isBackInDoubt && e.Message.Kind == Query {
			n.thaw(e.Message.Move)
		}
		w.put(pair{n.id, e.Hub}, true, e.Message)
	case Response:
		if e.Hub != n.id {
			w.put(pair{e.Hub, n.id}, false, e.Message)
		}
	case Fence:
		w.trace("%s fences %s", n.id, e.Hub)
		n.fenced = append(n.fenced, pair{e.Hub, n.id})
	case HangUp:
		w.trace("%s hangs up %s", n.id, e.Hub)
		n.fenced = append(n.fenced, pair{n.id, e.Hub})
	case Freeze, Collect, Seal, Thaw, Release:
		n.performOld(e)
	case Adopt, Apply, Commit, Abandon, Close:
		n.performNew(e)
	case Execute:
		for _, c := range sortedKeys(n.conns) {
			if !slices.Contains(e.Except, c) || w.wrong.isHeldDelivered {
				n.execute(c, e.Body.(request))
			}
		}
		if w.wrong.isHeldDelivered {
			for _, c := range sortedKeys(n.shadows) {
				w.apply(n, c, n.shadows[c], e.Body.(request))
			}
		}
	case Deliver:
		if w.wrong.isHeldLost ||
			w.wrong.isHeldDelivered && n.conns[e.Connection].has(e.Body.(request)) {
			return
		}
		w.trace("%s delivers %s to %s", n.id, e.Body.(request).name(), e.Connection)
		n.execute(e.Connection, e.Body.(request))
	case Finish:
		r := n.calls[e.Number]
		delete(n.calls, e.Number)
		w.finish(n, r, e.Unknown)
	case Look:
		if e.Proof != proofOf(e.Connection) {
			w.fail("%s: proof %v for %s", n.id, e.Proof, e.Connection)
		}
		n.perform(n.core.HandleStanding(w.now, e, n.standing(e.Connection)))
	case Taken:
		w.clients[e.Connection].bind(n)
	case Refuse:
		isSure := !e.IsSearched || w.isLinkedWithAll(n)
		w.clients[e.Connection].hearRefusal(n, e.IsFinal && isSure)
	}
}

func (n *node) standing(c hub.ConnectionID) Standing {
	isProven := n.conns[c] != nil || n.shadows[c] != nil
	if n.conns[c] != nil && n.conns[c].phase != inDoubt {
		return Standing{IsHere: true, IsProven: isProven}
	}
	return Standing{IsProven: isProven, At: n.stones[c]}
}

// execute carries a call out for a connection in the tables.
func (n *node) execute(id hub.ConnectionID, r request) {
	if c := n.conns[id]; c != nil && c.phase != inDoubt {
		n.world.apply(n, id, c, r)
	}
}

// performOld carries effects at the old hub out. The link is frozen, so nothing else happens.
func (n *node) performOld(e Effect) {
	w := n.world
	switch e := e.(type) {
	case Freeze:
		if n.freezing = append(n.freezing, e.Move); !w.isFreezeSlow {
			n.finishFreezes()
		}
	case Collect:
		if c := n.conns[e.Move.Connection]; c != nil && len(c.changes) == 0 {
			return
		}
		n.handOver(e.Move, n.core.HandleChanges)
	case Seal:
		n.handOver(e.Move, func(now time.Duration, id ID, changes any) []Effect {
			w.trace("%s seals %s", n.id, e.Move.Connection)
			n.conns[e.Move.Connection].phase = inDoubt
			n.conns[e.Move.Connection].sealedAt = w.now
			n.stones[e.Move.Connection] = e.Move.To
			return n.core.HandleSealed(now, id, changes)
		})
	case Thaw:
		n.thaw(e.Move)
	case Release:
		c := n.conns[e.Move.Connection]
		how := map[bool]string{true: ", lost"}[e.IsLost] +
			map[bool]string{true: ", in doubt"}[e.IsInDoubt]
		w.trace("%s releases %s%s", n.id, e.Move.Connection, how)
		if !e.IsLost {
			w.noteRelease(e, c)
		}
		delete(n.conns, e.Move.Connection)
		w.clients[e.Move.Connection].loseLink(n)
		if e.IsLost {
			w.clients[e.Move.Connection].isLost = true
			delete(n.stones, e.Move.Connection)
			return
		}
		var ended any
		if c.ended {
			ended = "ended"
		}
		n.perform(n.core.HandleReleased(w.now, e.Move.ID, ended))
	}
}

// finishFreezes ends the commands of clients that delay moves.
func (n *node) finishFreezes() {
	w, all := n.world, n.freezing
	n.freezing = nil
	for _, m := range all {
		c := n.conns[m.Connection]
		if c == nil {
			w.trace("%s can't freeze %s", n.id, m.Connection)
			n.perform(n.core.HandleFailure(w.now, m.ID, true))
			continue
		}
		w.trace("%s freezes %s for %s", n.id, m.Connection, m.To)
		c.phase, c.changes = moving, nil
		snapshot := c.state.clone()
		w.wrong.forget(&snapshot)
		n.perform(n.core.HandleFrozen(w.now, m.ID, c.epoch+1, snapshot))
	}
}

func (n *node) thaw(m Move) {
	n.freezing = slices.DeleteFunc(n.freezing, func(x Move) bool { return x.ID == m.ID })
	c := n.conns[m.Connection]
	if c == nil {
		return
	}
	n.world.trace("%s thaws %s", n.id, m.Connection)
	if c.phase == inDoubt {
		delete(n.stones, m.Connection)
	}
	c.phase, c.changes = live, nil
	if c.ended {
		n.world.close(n, m.Connection)
	}
}

// handOver takes the changes of a connection that moves.
func (n *node) handOver(m Move, handle func(time.Duration, ID, any) []Effect) {
	w := n.world
	c := n.conns[m.Connection]
	if c == nil {
		n.perform(n.core.HandleFailure(w.now, m.ID, true))
		return
	}
	changes := w.wrong.forgetChanges(c.changes)
	c.changes = nil
	n.perform(handle(w.now, m.ID, changes))
}

// performNew carries effects at the new hub out.
func (n *node) performNew(e Effect) {
	w := n.world
	switch e := e.(type) {
	case Adopt:
		from := e.Body.(state)
		n.shadows[e.Move.Connection] = &conn{state: from.clone()}
		n.perform(n.core.HandleAdopted(w.now, e.Move.ID))
	case Apply:
		for _, r := range e.Body.([]request) {
			w.change(n.shadows[e.Move.Connection], r)
		}
		if e.IsLast {
			n.perform(n.core.HandleApplied(w.now, e.Move.ID))
		}
	case Commit:
		c := n.shadows[e.Move.Connection]
		delete(n.shadows, e.Move.Connection)
		delete(n.stones, e.Move.Connection)
		c.epoch = e.Move.Epoch
		n.conns[e.Move.Connection] = c
		w.trace("%s commits %s with epoch %d", n.id, e.Move.Connection, c.epoch)
		w.checkTruth(n, e.Move.Connection)
	case Abandon:
		w.trace("%s abandons %s", n.id, e.Move.Connection)
		delete(n.shadows, e.Move.Connection)
	case Close:
		switch c := n.conns[e.Move.Connection]; {
		case c == nil:
		case c.phase == inDoubt:
			c.ended = true
		default:
			w.close(n, e.Move.Connection)
		}
	}
}

// apply carries a call out for a connection, and notes it as a change if the connection moves.
func (w *world) apply(n *node, id hub.ConnectionID, c *conn, r request) {
	if r.verb == send && r.group != "" && !slices.Contains(c.groups, r.group) {
		return
	}
	if r.verb == closes {
		w.close(n, id)
		return
	}
	if r.verb == send {
		w.checkPush(n, id, c, r)
	}
	if c.phase == moving {
		c.changes = append(c.changes, r)
	}
	w.change(c, r)
}

// change makes a change of a connection, or of its shadow.
func (w *world) change(c *conn, r request) {
	switch r.verb {
	case send:
		c.outbox = append(c.outbox, r.message())
		c.history = append(c.history, r.message())
		c.last[r.caller] = r.number
	case join:
		if !slices.Contains(c.groups, r.group) {
			c.groups = append(c.groups, r.group)
		}
	case leave:
		c.groups = slices.DeleteFunc(c.groups, func(g string) bool { return g == r.group })
	case grant:
		c.grants = append(c.grants, r.message())
	case drops:
		c.outbox = slices.Delete(c.outbox, c.numbered, c.numbered+1)
		c.dropped++
	case detaches:
		c.attached = false
	case closes: // ends the move
	}
}

// close ends a connection at its owner.
func (w *world) close(n *node, id hub.ConnectionID) {
	w.trace("%s closes %s", n.id, id)
	delete(n.conns, id)
	w.clients[id].isClosed = true
	w.clients[id].loseLink(n)
}

func (c *conn) has(r request) bool { return c != nil && slices.Contains(c.history, r.message()) }

func (s *state) clone() state {
	made := *s
	made.outbox, made.groups = slices.Clone(s.outbox), slices.Clone(s.groups)
	made.grants, made.done = slices.Clone(s.grants), slices.Clone(s.done)
	made.history, made.last = slices.Clone(s.history), maps.Clone(s.last)
	return made
}
