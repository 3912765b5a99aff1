package lobby

import (
	"container/list"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// addressShare is the part of Config.Most that one address may hold in line when another address wants in.
	addressShare = 8
	// addressMemory is for how long after its last newcomer an address counts as one that wants in. Its next newcomer may wait
	// in the kernel's queue, where the lobby does not see it.
	addressMemory = time.Minute
	// networkBits is the part of an IPv6 address that one client has to itself: it may use all addresses of a /64.
	networkBits = 64
)

// Config is what a Lobby needs to know. All of it must be set but Metrics.
type Config struct {
	Port string // the port's name in the log and in metrics: clients, ops
	Most int    // strangers at once, at least 1
	// Patience is how long a stranger may keep the hub waiting before a newcomer may take its place. At least 1 ms.
	Patience time.Duration
	Logger   *slog.Logger // told at Warn of errors of accept

	Metrics *Metrics // nil: none
}

// Validate returns all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var errs []error
	if c.Port == "" {
		errs = append(errs, errors.New("Port is not set"))
	}
	if c.Most < 1 {
		errs = append(errs, fmt.Errorf("Most is %d, must be at least 1", c.Most))
	}
	if c.Patience < time.Millisecond {
		errs = append(errs, fmt.Errorf("Patience is %v, must be at least 1ms", c.Patience))
	}
	if c.Logger == nil {
		errs = append(errs, errors.New("Logger is not set"))
	}
	return errors.Join(errs...)
}

// Lobby holds the strangers of one port. All methods may be called concurrently.
type Lobby struct {
	// Static after New.
	config  Config
	metrics portMetrics

	mu sync.Mutex
	// strangers has those for which the hub waits, the one that has kept it waiting longest in front, and anywhere between them
	// those for which it works.
	strangers list.List
	byConn    map[net.Conn]*Stranger
	addresses map[netip.Addr]*address
	arrivals  [2]arrival    // the last one, and the last one of another address
	changed   chan struct{} // closed when a stranger left or keeps the hub waiting; nil: no Accept waits for that
}

// arrival is the last newcomer of an address.
type arrival struct {
	from netip.Addr
	at   time.Time
}

// state says on which side the wait is.
type state uint8

const (
	waiting state = iota // the hub waits for the stranger
	queued               // the stranger waits for the hub, in line with others
	served               // the hub works for the stranger
)

// address counts the strangers of one.
type address struct{ strangers int }

// New returns an empty lobby.
func New(c Config) (*Lobby, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("lobby config: %w", err)
	}
	return &Lobby{
		config:    c,
		metrics:   c.Metrics.port(c.Port),
		byConn:    make(map[net.Conn]*Stranger),
		addresses: make(map[netip.Addr]*address),
	}, nil
}

// Stranger is a connection in the lobby. All methods may be called concurrently. A nil Stranger is one that a listener of
// another kind accepted: its methods do nothing.
type Stranger struct {
	// Static.
	lobby   *Lobby
	conn    net.Conn
	from    netip.Addr // IPv6: the /64; zero: it is not known
	element *list.Element

	// Guarded by lobby.mu.
	address  *address
	state    state
	answered bool          // its answer is on its way
	since    time.Time     // when the hub began to wait for it
	gone     chan struct{} // closed when it has left; nil: it was never queued
	left     bool
}

// enter takes a connection in.
func (l *Lobby) enter(conn net.Conn) *Stranger {
	s := &Stranger{lobby: l, conn: conn, since: time.Now()}
	if a, err := netip.ParseAddrPort(conn.RemoteAddr().String()); err == nil {
		s.from = client(a.Addr())
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

// client returns the address under which a client's strangers are counted.
func client(a netip.Addr) netip.Addr {
	if a = a.Unmap().WithZone(""); a.Is6() {
		return netip.PrefixFrom(a, networkBits).Masked().Addr()
	}
	return a
}

// Find returns the stranger that a connection is; nil: it has left, or never entered.
func (l *Lobby) Find(conn net.Conn) *Stranger {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byConn[conn]
}

// Address returns the address that the stranger is counted under: of IPv6 the /64, and zero if it is not known.
func (s *Stranger) Address() netip.Addr {
	if s == nil {
		return netip.Addr{}
	}
	return s.from
}

// Queue says that the stranger waits in line for the hub, until Serve or Wait: it is dropped for a newcomer of another address
// alone. The channel is closed when the stranger has left.
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

// Serve says that the hub works for the stranger, until Wait: it is not dropped.
func (s *Stranger) Serve() {
	if s == nil {
		return
	}
	s.lobby.mu.Lock()
	defer s.lobby.mu.Unlock()
	s.state = served
}

// Wait says that the hub waits for the stranger.
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

// answer says that the answer is on its way, and that the hub waits for the stranger to take it.
func (s *Stranger) answer() {
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

func (l *Lobby) signalLocked() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// makeRoom returns when no more strangers are here than there may be, with the newcomer. It reports false when done was
// closed first.
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

// dropOne takes one stranger out if there are too many, for the caller to close. If it returns a channel instead, there are too
// many and none may be dropped: the caller looks again when the channel is closed, and when the time is over.
func (l *Lobby) dropOne(newcomer *Stranger) (dropped net.Conn, again time.Duration, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.strangers.Len() <= l.config.Most {
		return nil, 0, nil
	}
	s := l.idlestLocked()
	if last := l.lastInLineLocked(newcomer); last != nil && (s == nil || s.address.strangers < last.address.strangers) {
		s = last
	}
	if s != nil {
		s.leaveLocked(Replaced)
		return bottom(s.conn), 0, nil
	}
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return nil, l.config.Patience / 4, l.changed
}

// idlestLocked returns the stranger to drop; nil: there is none. If a stranger has sent something that the hub has not read,
// the hub is late, and the stranger has its patience again. So the hub looks into each socket once in Config.Patience at most.
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
	slices.SortStableFunc(idle, func(a, b *Stranger) int { return b.address.strangers - a.address.strangers })
	for _, s := range idle {
		if !hasInput(s.conn) {
			return s
		}
		s.since = now
		l.strangers.MoveToBack(s.element)
	}
	return nil
}

// lastInLineLocked returns the stranger in line whose place the newcomer gets: of the address that has most strangers, the last
// one. It returns nil if that address has no more than its share, or if the newcomer is of that address and no other one wants
// in: clients behind one address, as behind a NAT, may hold the whole lobby when nobody else does.
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

// hasRivalLocked reports whether another address has had a newcomer lately.
func (l *Lobby) hasRivalLocked(from netip.Addr) bool {
	for _, a := range l.arrivals {
		if a.from != from && time.Since(a.at) < addressMemory {
			return true
		}
	}
	return false
}

// DropIdle drops all strangers that keep the hub waiting: those that have sent nothing yet, or nothing more. A stranger that was
// answered ends by itself.
func (l *Lobby) DropIdle() {
	var idle []net.Conn
	l.mu.Lock()
	for _, s := range l.byConn {
		if s.state == waiting && !s.answered && !hasInput(s.conn) {
			s.leaveLocked(Ended)
			idle = append(idle, bottom(s.conn))
		}
	}
	l.mu.Unlock()
	for _, conn := range idle {
		_ = conn.Close()
	}
}

// bottom returns the connection below all TLS, whose Close says no goodbye and so never waits.
func bottom(conn net.Conn) net.Conn {
	for {
		wrapped, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return conn
		}
		conn = wrapped.NetConn()
	}
}
