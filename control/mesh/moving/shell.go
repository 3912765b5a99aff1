package moving

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/connhub/connhub/control/mesh/handover"
	"github.com/connhub/connhub/control/mesh/move"
	"github.com/connhub/connhub/hub"
)

// The bounds of the calls that wait for connections that move. A move takes some round trips, or
// MarkTime if a hub stands still. A connection in doubt may wait for its resume window.
const (
	mostHeld      = 4096     // for a connection
	mostHeldBytes = 4 << 20  // for a connection
	mostBytes     = 64 << 20 // for all connections of a hub
)

// Config configures a Shell. All fields are required.
type Config struct {
	Self  hub.ID               // the id of this hub
	Lanes int                  // of each link
	Links Links                // of this hub
	Now   func() time.Duration // the time of a monotonic clock
	// Logger gets a line for each move that fails.
	Logger *slog.Logger
}

// Shell is the shell of a hub's move core. It is safe for concurrent use.
type Shell struct {
	*gate

	// Static once the hub runs.
	config   Config
	executor Executor
	hub      *hub.Hub // nil: no connection moves to or from this hub
	clients  Clients
	running  context.Context // of all that the shell begins
	metrics  *metrics

	// They change within Do.
	core       *move.Core
	executions map[callKey]*execution
	burst      *hub.Burst // of the call that is an input now; may be nil
	freezing   map[move.ID]context.CancelFunc
	begun      map[move.ID]time.Duration          // moves from this hub that are under way
	watched    map[hub.ConnectionID]chan<- string // gets the outcome of the move from this hub
	entering   map[move.ID]*entrance
	takes      *takes
	waits      moveWaits
	timer      *time.Timer // for the core's next deadline

	tasks sync.WaitGroup // Freeze

	mu   sync.Mutex // a leaf
	work []func()   // for Run, within Do
	news chan struct{}
}

// Input is a call of the core.
type Input func(c *move.Core, now time.Duration) []move.Effect

// New returns a shell without connections: its hub is only an origin of calls, and carries out the
// calls of peers.
func New(c Config) *Shell {
	s := &Shell{
		gate: newGate(), config: c, metrics: newMetrics(),
		executions: make(map[callKey]*execution),
		freezing:   make(map[move.ID]context.CancelFunc),
		begun:      make(map[move.ID]time.Duration),
		watched:    make(map[hub.ConnectionID]chan<- string),
		entering:   make(map[move.ID]*entrance),
		news:       make(chan struct{}, 1),
		running:    context.Background(),
	}
	s.core = newCore(c, 0) // seals nothing
	s.takes = &takes{
		shell: s, byID: make(map[hub.ConnectionID]*taking), given: make(map[move.ID]struct{}),
	}
	s.timer = time.AfterFunc(time.Hour, func() {
		s.doLater(func() { s.Handle((*move.Core).HandleTick) })
	})
	s.timer.Stop()
	return s
}

// SetExecutor sets the executor of calls. It is called once, before the hub has a link.
func (s *Shell) SetExecutor(e Executor) { s.executor = e }

// Clients is the knowledge of clients that a hub needs for those that move to it. The functions may
// be called concurrently.
type Clients struct {
	// Speaks returns a protocol, with its framing, by its name.
	Speaks func(protocol string) (hub.Protocol, bool)
	// Restore returns the claims of a client.
	Restore handover.RestoreClaims
	// ResumeWindow is how long a connection without a link waits for its client. A connection in
	// doubt waits as long for the answer of its new hub.
	ResumeWindow time.Duration
}

// Enable lets connections of h move. It is called once, before the hub has a link and before Run.
func (s *Shell) Enable(h *hub.Hub, c Clients) {
	s.hub, s.clients, s.core = h, c, newCore(s.config, c.ResumeWindow)
}

func newCore(c Config, doubt time.Duration) *move.Core {
	return move.New(move.Config{
		Self: c.Self, Lanes: c.Lanes, DoubtTime: doubt,
		MaxHeld: mostHeld, MaxHeldBytes: mostHeldBytes, MaxBytes: mostBytes, SizeOf: sizeOf,
	})
}

// Run does the work that can't be done where it arises, until ctx is done. It is called once.
func (s *Shell) Run(ctx context.Context) {
	s.Do(func() { s.running = ctx })
	defer s.tasks.Wait()
	defer s.Do(s.takes.endTakes)
	for {
		select {
		case <-s.news:
			s.Do(s.doWork)
		case <-ctx.Done():
			return
		}
	}
}

// doWork does the work that waits.
func (s *Shell) doWork() {
	for {
		s.mu.Lock()
		work := s.work
		s.work = nil
		s.mu.Unlock()
		if len(work) == 0 {
			return
		}
		for _, do := range work {
			do()
		}
	}
}

// doLater has Run call do within Do. It never waits, and may be called under any lock.
func (s *Shell) doLater(do func()) {
	s.mu.Lock()
	s.work = append(s.work, do)
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// Handle makes an input of the core, and carries out its effects. It is called within Do.
func (s *Shell) Handle(input Input) {
	wasIdle := s.core.IsIdle()
	s.core.SkipCalls(s.gate.calls.Load())
	effects := input(s.core, s.config.Now())
	if wasIdle && !s.core.IsIdle() {
		s.gate.periods.Add(1)
		s.AddCalls()
	}
	s.gate.calls.Store(s.core.Called())
	s.gate.dials.Store(s.core.Dials())
	s.performAll(effects)
	s.gate.moving.Store(!s.core.IsIdle())
	s.waits.endUnless(s.core.HasMoves())
	if next := s.core.NextDeadline(); next-s.config.Now() < time.Hour {
		s.timer.Reset(max(1, next-s.config.Now()))
	}
}

// HandleDeath tells the core that a hub is gone for good. It may be called under any lock.
func (s *Shell) HandleDeath(peer hub.ID) {
	s.doLater(func() {
		s.Handle(func(c *move.Core, now time.Duration) []move.Effect {
			return c.HandleDeath(now, peer)
		})
	})
}

// AddCalls tells the core of the calls that wait for an answer. It is called within Do.
func (s *Shell) AddCalls() {
	s.core.SkipCalls(s.gate.calls.Load())
	s.config.Links.EachWaitingCall(s.core.AddCall)
}

// performAll carries effects out, in order.
func (s *Shell) performAll(effects []move.Effect) {
	for _, e := range effects {
		s.performEffect(e)
	}
}

func (s *Shell) performEffect(e move.Effect) {
	links := s.config.Links
	switch e := e.(type) {
	case move.Request:
		s.sendRequest(e.Hub, &e.Message)
	case move.Response:
		s.sendResponse(e.Hub, &e.Message)
	case move.Fence:
		links.Fence(e.Hub)
	case move.HangUp:
		links.HangUp(e.Hub)
	case move.Execute:
		s.executeCall(e)
	case move.Deliver:
		s.deliverCall(e)
	case move.Finish:
		links.Finish(e.Number, e.Unknown)
	case move.Look:
		s.takes.lookWhenRoom(e)
	case move.Taken:
		s.takes.finishTake(e.Connection, nil)
	case move.Refuse:
		s.takes.refuseTake(e)
	case move.Freeze, move.Collect, move.Seal, move.Thaw, move.Release:
		s.giveConnection(e)
	default:
		s.takeConnection(e)
	}
}

func (s *Shell) sendRequest(to hub.ID, m *move.Message) {
	links := s.config.Links
	switch m.Kind {
	case move.Call, move.Resend:
		if !links.PutCall(to, m) {
			s.performAll(s.core.LoseCall(s.config.Now(), m.Number, to))
		}
	case move.Mark, move.Settled:
		links.PutMark(to, m)
	default:
		links.Request(to, m)
	}
}

func (s *Shell) sendResponse(to hub.ID, m *move.Message) {
	switch m.Kind {
	case move.Result:
		s.answerCall(to, m)
	case move.Done:
		if e := s.entering[m.Move.ID]; e != nil {
			e.done = append(e.done, to)
			return
		}
		s.config.Links.Respond(to, m)
	default:
		s.config.Links.Respond(to, m)
	}
}
