package lobby

import (
	"container/list"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/connhub/connhub/internal/config"
)

const (
	// addressShare is the divisor of Config.Most that gives the share of an address: more strangers
	// in line it may have only while no second address has newcomers.
	addressShare = 8
	// addressMemory is the time after its last newcomer for which an address still counts as having
	// newcomers. Its next newcomer may wait in the kernel's queue, where the lobby does not see it.
	addressMemory = time.Minute
	// networkBits is the length of the IPv6 prefix that a client usually owns: it may use all
	// addresses of a /64.
	networkBits = 64
)

// Config configures a Lobby. DefaultConfig fills the limits.
type Config struct {
	Port string // the port's name in the log and in metrics: clients, ops
	Most int    // limit of strangers at once, at least 1
	// Patience is the time for which a stranger may keep the hub waiting before a newcomer may take
	// its place. At least 1 ms.
	Patience time.Duration
	Logger   *slog.Logger // receives failed accepts at Warn; nil: nothing is logged

	Metrics *Metrics // nil: the lobby's metrics are not registered
}

// DefaultConfig returns the default limits, and no Port.
func DefaultConfig() Config {
	return Config{
		Most:     2048,                   // a burst of clients, at 10 KB each
		Patience: 100 * time.Millisecond, // a round trip on a phone
	}
}

// Validate returns all problems of c.
func (c *Config) Validate() config.Problems {
	var p config.Problems
	p.Require(c.Port != "", "Port", "is not set")
	p.Require(c.Most > 0, "Most", "is %d, must be at least 1", c.Most)
	p.Require(c.Patience >= time.Millisecond, "Patience", "is %v, must be at least 1ms", c.Patience)
	return p
}

// Lobby holds the strangers of a port. It is safe for concurrent use.
type Lobby struct {
	// Static after New.
	config  Config
	metrics portMetrics

	mu sync.Mutex
	// strangers holds all strangers. Those that keep the hub waiting are in the order of
	// Stranger.since, the oldest first. The rest are anywhere between them.
	strangers list.List
	byConn    map[net.Conn]*Stranger
	addresses map[netip.Addr]*address
	arrivals  [2]arrival // the last newcomer, and the last from a different address
	// changed is closed when a stranger leaves, or begins to wait or to keep the hub waiting. It is
	// nil while no Accept waits for that.
	changed chan struct{}
}

// arrival is the time at which the last newcomer of an address came.
type arrival struct {
	from netip.Addr
	at   time.Time
}

// state tells which side of a stranger's connection waits.
type state uint8

const (
	waiting state = iota // the hub waits for the stranger
	queued               // the stranger waits for the hub, in line with others
	served               // the hub works for the stranger
)

// address counts the strangers that have the same address.
type address struct{ strangers int }

// New returns an empty lobby.
func New(c Config) (*Lobby, error) {
	if err := c.Validate().Err(); err != nil {
		return nil, fmt.Errorf("lobby config: %w", err)
	}
	c.Logger = config.Logger(c.Logger)
	return &Lobby{
		config:    c,
		metrics:   c.Metrics.ofPort(c.Port),
		byConn:    make(map[net.Conn]*Stranger),
		addresses: make(map[netip.Addr]*address),
	}, nil
}

// Stranger is a connection in the lobby. It is safe for concurrent use. All methods accept a nil
// Stranger and do nothing: it stands for a connection that did not come through a lobby's Listener.
type Stranger struct {
	// Static.
	lobby   *Lobby
	conn    net.Conn
	from    netip.Addr // of IPv6 the /64; zero: unknown
	element *list.Element

	// Guarded by lobby.mu.
	address  *address
	state    state
	answered bool          // the handler has answered; the answer may still be on its way
	since    time.Time     // the start of the hub's wait for the stranger
	gone     chan struct{} // closed when the stranger leaves; nil: it was never queued
	left     bool
}

// addStranger takes a connection into the lobby.
func (l *Lobby) addStranger(conn net.Conn) *Stranger {
	s := &Stranger{lobby: l, conn: conn, since: time.Now()}
	switch a := conn.RemoteAddr().(type) {
	case *net.TCPAddr:
		s.from = maskAddress(a.AddrPort().Addr())
	case nil:
	default:
		if a, err := netip.ParseAddrPort(a.String()); err == nil {
			s.from = maskAddress(a.Addr())
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.arrivals[0].from != s.from {
		l.arrivals[1] = l.arrivals[0]
	}
	l.arrivals[0] = arrival{s.from, s.since}
	if s.address = l.addresses[s.from]; s.address == nil {
		s.address = &address{}
		l.addresses[s.from] = s.address
	}
	s.address.strangers++
	s.element = l.strangers.PushBack(s)
	l.byConn[conn] = s
	l.metrics.strangers.Inc()
	return s
}

// maskAddress returns the address that counts a client's strangers: of IPv6 the /64.
func maskAddress(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		return netip.PrefixFrom(a, networkBits).Masked().Addr()
	}
	return a
}

// Find returns the stranger of a connection, or of a connection below it. It returns nil if the
// stranger has left or never entered.
func (l *Lobby) Find(conn net.Conn) *Stranger {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if s := l.byConn[conn]; s != nil {
			return s
		}
		wrapped, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		conn = wrapped.NetConn()
	}
}

// Address returns the stranger's address: of IPv6 the /64, and zero if it is unknown.
func (s *Stranger) Address() netip.Addr {
	if s == nil {
		return netip.Addr{}
	}
	return s.from
}

// Queue marks the stranger as waiting in line for the hub, until Serve or Wait. The lobby drops it
// only as lastInLineLocked allows. The channel is closed when the stranger leaves.
func (s *Stranger) Queue() <-chan struct{} {
	if s == nil {
		return nil
	}
	s.lobby.mu.Lock()
	defer s.lobby.mu.Unlock()
	s.state = queued
	if s.gone == nil {
		s.gone = make(chan struct{})
		if s.left {
			close(s.gone)
		}
	}
	s.lobby.signalLocked()
	return s.gone
}

// Serve marks the stranger as served by the hub, until Wait or Queue. The lobby does not drop it.
func (s *Stranger) Serve() {
	if s == nil {
		return
	}
	s.lobby.mu.Lock()
	defer s.lobby.mu.Unlock()
	s.state = served
}

// Wait marks the stranger as keeping the hub waiting, from now on.
func (s *Stranger) Wait() {
	if s == nil {
		return
	}
	l := s.lobby
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.left {
		return
	}
	s.state, s.since = waiting, time.Now()
	l.strangers.MoveToBack(s.element)
	l.signalLocked()
}

// markAnswered marks the stranger as answered, and as keeping the hub waiting until it has read the
// answer.
func (s *Stranger) markAnswered() {
	if s == nil {
		return
	}
	s.lobby.mu.Lock()
	s.answered = true
	s.lobby.mu.Unlock()
	s.Wait()
}

// Leave takes the stranger out of the lobby. Only the first call counts.
func (s *Stranger) Leave(how Departure) {
	if s == nil {
		return
	}
	s.lobby.mu.Lock()
	defer s.lobby.mu.Unlock()
	s.leaveLocked(how)
}

// leaveLocked is Leave for callers that hold l.mu.
func (s *Stranger) leaveLocked(how Departure) {
	if s.left {
		return
	}
	l := s.lobby
	s.left = true
	if s.gone != nil {
		close(s.gone)
	}
	l.strangers.Remove(s.element)
	delete(l.byConn, s.conn)
	if s.address.strangers--; s.address.strangers == 0 {
		delete(l.addresses, s.from)
	}
	l.metrics.strangers.Dec()
	l.metrics.left[how].Inc()
	l.signalLocked()
}

// signalLocked wakes an Accept that waits for room.
func (l *Lobby) signalLocked() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// makeRoom drops strangers, or waits, until there are at most Config.Most with the newcomer. It
// reports false if done is closed first.
func (l *Lobby) makeRoom(newcomer *Stranger, done <-chan struct{}) bool {
	for {
		dropped, again, changed := l.dropOne(newcomer)
		if dropped != nil {
			_ = dropped.Close()
			continue
		}
		if changed == nil {
			return true
		}
		look := time.NewTimer(again)
		select {
		case <-changed:
		case <-look.C:
		case <-done:
			look.Stop()
			return false
		}
		look.Stop()
	}
}

// dropOne takes a stranger out of the lobby if there are too many. It returns
//
//   - the connection of that stranger, which the caller must close;
//   - or a channel and a duration, if there are too many and none may be dropped. The caller must
//     try again when the channel is closed or the duration is over;
//   - or zero values, if there are not too many.
func (l *Lobby) dropOne(newcomer *Stranger) (
	dropped net.Conn, again time.Duration, changed <-chan struct{},
) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.strangers.Len() <= l.config.Most {
		return nil, 0, nil
	}
	s := l.idlestLocked()
	last := l.lastInLineLocked(newcomer)
	if last != nil && (s == nil || s.address.strangers < last.address.strangers) {
		s = last
	}
	if s != nil {
		s.leaveLocked(Replaced)
		return bottomConn(s.conn), 0, nil
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return nil, l.config.Patience / 4, l.changed
}

// idlestLocked returns the stranger to drop of those that keep the hub waiting, or nil if none may
// be dropped. If a stranger has sent bytes that the hub has not read, the hub is late: the stranger
// may keep it waiting for Config.Patience again. So the hub looks into each socket at most once in
// Config.Patience.
func (l *Lobby) idlestLocked() *Stranger {
	now := time.Now()
	var idle []*Stranger
	for e := l.strangers.Front(); e != nil; e = e.Next() {
		s := e.Value.(*Stranger)
		if s.state != waiting {
			continue
		}
		if s.since.After(now.Add(-l.config.Patience)) {
			break // as are all behind it
		}
		idle = append(idle, s)
	}
	slices.SortStableFunc(idle, func(a, b *Stranger) int {
		return b.address.strangers - a.address.strangers
	})
	for _, s := range idle {
		if !hasInput(s.conn) {
			return s
		}
		s.since = now
		l.strangers.MoveToBack(s.element)
	}
	return nil
}

// lastInLineLocked returns the stranger in line that makes room for the newcomer: the last stranger
// of the address with the most strangers. It returns nil
//
//   - if that address has at most its share of the lobby, or fewer strangers than the newcomer's;
//   - if the newcomer has that address and no second address has newcomers. Clients behind a NAT
//     may fill the lobby as long as they are alone.
func (l *Lobby) lastInLineLocked(newcomer *Stranger) *Stranger {
	var worst *Stranger
	for e := l.strangers.Back(); e != nil; e = e.Prev() {
		s := e.Value.(*Stranger)
		if s.state == queued && (worst == nil || s.address.strangers > worst.address.strangers) {
			worst = s
		}
	}
	switch {
	case worst == nil,
		worst.address.strangers <= max(1, l.config.Most/addressShare),
		worst.address.strangers < newcomer.address.strangers,
		worst.address == newcomer.address && !l.hasRivalLocked(newcomer.from):
		return nil
	}
	return worst
}

// hasRivalLocked reports whether an address other than from has had a newcomer within
// addressMemory.
func (l *Lobby) hasRivalLocked(from netip.Addr) bool {
	for _, a := range l.arrivals {
		if a.from != from && time.Since(a.at) < addressMemory {
			return true
		}
	}
	return false
}

// DropIdle drops the strangers that keep the hub waiting and have not been answered, until stop is
// called. A stranger that was answered ends by itself. At first DropIdle spares strangers with
// bytes that the hub has not read: they may be the rest of a request, and the hub answers it. A
// Config.Patience later it drops them too, because a record of TLS, for instance, may have no
// request in it.
func (l *Lobby) DropIdle() (stop func()) {
	isIdle := func(s *Stranger) bool { return s.state == waiting && !s.answered }
	l.dropStrangers(func(s *Stranger) bool { return isIdle(s) && !hasInput(s.conn) })
	ended := make(chan struct{})
	var dropping sync.WaitGroup
	dropping.Go(func() {
		again := time.NewTicker(l.config.Patience)
		defer again.Stop()
		for {
			select {
			case <-again.C:
				l.dropStrangers(isIdle)
			case <-ended:
				return
			}
		}
	})
	return func() {
		close(ended)
		dropping.Wait()
	}
}

// DropAll drops all strangers.
func (l *Lobby) DropAll() { l.dropStrangers(func(*Stranger) bool { return true }) }

// dropStrangers drops the strangers of which mustGo returns true. It calls mustGo under the lock.
func (l *Lobby) dropStrangers(mustGo func(*Stranger) bool) {
	var dropped []net.Conn
	l.mu.Lock()
	for _, s := range l.byConn {
		if mustGo(s) {
			s.leaveLocked(Ended)
			dropped = append(dropped, bottomConn(s.conn))
		}
	}
	l.mu.Unlock()
	for _, conn := range dropped {
		_ = conn.Close()
	}
}

// bottomConn returns the connection below all layers of TLS. Its Close sends nothing, so it never
// waits.
func bottomConn(conn net.Conn) net.Conn {
	for {
		wrapped, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = wrapped.NetConn()
	}
}
