package port

import (
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/auth"
)

const (
	// MinConnections is the least of Config.MaxConnections, if that is set.
	MinConnections = 8
	// newcomersShare is the divisor for the part of the port's connections that is kept for
	// strangers: an eighth. Each connection begins as a stranger's, so without that part the port
	// would be closed to peers and to backends that have no connection yet.
	newcomersShare = 8
	// portLogInterval is the least time between two log lines about strangers, and between two
	// about the same credential.
	portLogInterval = time.Minute
)

// gate bounds the connections of the control port, and chooses the connection to close when there
// are too many.
//
// A connection begins as a stranger's (strangers.go). From its first call with a valid credential
// on it is known, and belongs to that credential (holders.go).
type gate struct {
	// Static.
	logger *slog.Logger
	most   int // connections at once; 0: any number

	strangersClosed *prometheus.CounterVec // by strangerEnd
	overShare       *prometheus.CounterVec // by shareEnd

	mu        sync.Mutex
	open      int                   // connections
	accepted  map[net.Conn]*inbound // whose handshake has not begun
	strangers strangers
	holders   holders
	ends      reasonLog[strangerEnd] // of strangers whose connection was closed
}

// newGate returns a port that may have most connections at once; 0: any number. At most half of
// them may be strangers', and at least the newcomersShare is kept for strangers.
func newGate(logger *slog.Logger, most int) *gate {
	mostStrangers, mostKnown := maxStrangers, 0
	if most > 0 {
		mostStrangers = min(mostStrangers, (most+1)/2)
		mostKnown = most - min(mostStrangers, most/newcomersShare)
	}
	return &gate{
		logger: logger, most: most, accepted: make(map[net.Conn]*inbound),
		strangers: newStrangers(mostStrangers), holders: newHolders(mostKnown),
		strangersClosed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_grpc_strangers_closed_total",
			Help: "Connections of the gRPC API that the hub closed because they had shown no " +
				"valid credential, by reason: time, bytes, room (too many in all), address " +
				"(too many of one address), full (the port has no room for another connection).",
		}, []string{"reason"}),
		overShare: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_grpc_over_share_total",
			Help: "Connections of backends that the hub closed, or did not take, because the " +
				"port was full and their credential held most of it, by result: closed, refused.",
		}, []string{"result"}),
	}
}

// strangerCount returns the number of strangers' connections.
func (g *gate) strangerCount() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.strangers.all.Len()
}

// knownCount returns the number of connections that have shown a credential of a role.
func (g *gate) knownCount(role auth.Role) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.holders.countConns(role)
}

// addAccepted lists an accepted connection, and closes a stranger's if there are too many.
func (g *gate) addAccepted(raw net.Conn) *inbound {
	c := &inbound{raw: raw, address: addressOf(raw), gate: g}
	c.beginWaiting()
	tooMany, why := g.listStranger(c)
	if tooMany != nil {
		g.endStranger(tooMany, why)
	}
	return c
}

// listStranger lists a new connection. It returns the stranger to close, or nil, and the reason.
func (g *gate) listStranger(c *inbound) (*inbound, strangerEnd) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c.counted = true
	g.open++
	g.strangers.listConn(c)
	c.timer = time.AfterFunc(StrangerTime, func() { g.reviewStranger(c) })
	if tooMany, why := g.strangers.findSurplus(c); tooMany != nil {
		return tooMany, why
	}
	if g.most > 0 && g.open > g.most {
		return g.strangers.chooseVictim(&g.strangers.all), endedFull
	}
	return nil, ""
}

// reviewStranger runs after StrangerTime. It closes a stranger's connection, or keeps it in
// reserve.
func (g *gate) reviewStranger(c *inbound) {
	if !g.keepInReserve(c) {
		g.endStranger(c, endedTime)
	}
}

// keepInReserve puts a stranger's connection in reserve for StrangerTime more. It reports false if
// the connection may not stay.
func (g *gate) keepInReserve(c *inbound) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.place.all == nil || !c.shaken || c.faulted.Load() {
		return false
	}
	c.inReserve = true
	c.timer.Reset(StrangerTime)
	return true
}

// makeKnown makes a stranger's connection known by a credential. If the port then has too many
// known connections, the credential with most of them gives one up. makeKnown reports false if that
// is the same credential and it has no idle connection: then c stays a stranger's.
func (g *gate) makeKnown(c *inbound, who auth.Identity) bool {
	payer, ok := g.moveToHolder(c, who)
	if payer != nil {
		_ = payer.raw.Close() // the transport closes what is above
		g.forgetConn(payer)
	}
	return ok
}

// moveToHolder is makeKnown without closing the connection that is given up, which it returns as
// payer; nil if there is none.
func (g *gate) moveToHolder(c *inbound, who auth.Identity) (payer *inbound, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.place.all == nil { // the connection is over
		c.known.Store(true)
		return nil, true
	}
	payer, ok = g.holders.addConn(c, who)
	if !ok {
		if !c.refused {
			c.refused = true
			g.countOverShareLocked(g.holders.of[who], shareRefused)
		}
		return nil, false
	}
	if payer != nil {
		of := payer.holder
		g.holders.removeConn(payer)
		g.countOverShareLocked(of, shareClosed)
	}
	g.removeStrangerLocked(c)
	c.known.Store(true)
	return payer, true
}

// countOverShareLocked counts a connection that was closed or refused, and logs it, with a line a
// portLogInterval for each credential at most.
func (g *gate) countOverShareLocked(of *holder, how shareEnd) {
	g.overShare.WithLabelValues(string(how)).Inc()
	counts, due := of.ends.countEnd(how, shareEnds)
	if !due {
		return
	}
	attributes := []any{
		slog.String("credential", of.identity.Name), slog.Int("connections", of.conns.Len()),
		slog.Int("of", g.holders.most),
	}
	g.logger.Warn("the control port is full, and a credential holds most of its connections",
		append(attributes, counts...)...)
}

// removeStrangerLocked takes a connection from the strangers, because it is known or over. It
// reports whether the connection was a stranger's.
func (g *gate) removeStrangerLocked(c *inbound) bool {
	if c.place.all == nil {
		return false
	}
	c.timer.Stop()
	g.strangers.unlistConn(c)
	return true
}

// removeStranger is removeStrangerLocked without g.mu.
func (g *gate) removeStranger(c *inbound) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.removeStrangerLocked(c)
}

// forgetConn takes a closed connection out of all lists and counts.
func (g *gate) forgetConn(c *inbound) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.removeStrangerLocked(c)
	g.holders.removeConn(c)
	if c.counted {
		c.counted = false
		g.open--
	}
}

// endStranger closes a stranger's connection, unless it is known or over. Its transport ends when
// it reads.
func (g *gate) endStranger(c *inbound, why strangerEnd) {
	if !g.removeStranger(c) {
		return
	}
	_ = c.raw.Close() // the transport closes the layers above
	g.forgetConn(c)
	g.countStranger(c, why)
}

// countStranger counts a stranger's connection that was closed, and logs it, with a line a
// portLogInterval at most. A connection that was refused for its credential's share has been
// counted.
func (g *gate) countStranger(c *inbound, why strangerEnd) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.refused {
		return
	}
	g.strangersClosed.WithLabelValues(string(why)).Inc()
	closed, due := g.ends.countEnd(why, strangerEnds)
	if !due {
		return
	}
	// The counts are in a group, because "time" is a key of every line.
	g.logger.Warn("closed control connections that have shown no credential",
		slog.String("address", c.address), slog.Group("closed", closed...))
}

// reasonLog counts ended connections by reason, for a log line each portLogInterval. gate.mu guards
// it. The zero value is ready to use.
type reasonLog[R ~string] struct {
	logged   time.Time // time of the last line; zero: none was written
	unlogged map[R]int // connections since the last line
}

// countEnd counts a connection, and reports whether a line is due. If so, it returns the counts
// since the last line by reason, as attributes, and resets them.
func (l *reasonLog[R]) countEnd(why R, reasons []R) (counts []any, due bool) {
	if l.unlogged == nil {
		l.unlogged = make(map[R]int)
	}
	l.unlogged[why]++
	now := time.Now()
	if !l.logged.IsZero() && now.Sub(l.logged) < portLogInterval {
		return nil, false
	}
	l.logged = now
	for _, reason := range reasons {
		counts = append(counts, slog.Int(string(reason), l.unlogged[reason]))
	}
	clear(l.unlogged)
	return counts, true
}

// listener lists each connection when it is accepted. gRPC may begin the handshake much later.
type listener struct {
	net.Listener

	gate *gate
}

// Accept returns the next connection, unwrapped: gRPC sets options only on a plain TCP connection.
func (l listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err == nil {
		boundKernelMemory(raw)
		in := l.gate.addAccepted(raw)
		l.gate.mu.Lock()
		l.gate.accepted[raw] = in
		l.gate.mu.Unlock()
	}
	return raw, err //nolint:wrapcheck // gRPC looks at it
}

// beginHandshake returns the inbound of an accepted connection, whose handshake begins.
func (g *gate) beginHandshake(raw net.Conn) *inbound {
	g.mu.Lock()
	defer g.mu.Unlock()
	in := g.accepted[raw]
	delete(g.accepted, raw)
	return in
}

// endHandshake records that TLS is set up, as conn. gRPC ends a connection whose HTTP/2 preface and
// settings don't come within HandshakeTimeout.
func (g *gate) endHandshake(in *inbound, conn net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	in.Conn, in.shaken = conn, true
}

// addressOf returns the remote address, without its port. For IPv6 it is the /64, which a host may
// have to itself.
func addressOf(c net.Conn) string {
	address := c.RemoteAddr().String()
	of, err := netip.ParseAddrPort(address)
	if err != nil {
		return address
	}
	ip := of.Addr().Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}
