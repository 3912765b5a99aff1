package control

import (
	"container/list"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxStrangers bounds the connections that have shown no credential. Each costs about 100 KB
	// for gRPC's buffers and TLS. A backend shows its credential with its first call, within
	// milliseconds, so many backends can connect at once. One connection too many takes the place
	// of one that keeps the hub waiting: so strangers that stay can't keep backends out.
	maxStrangers = 256
	// maxStrangersOfAddress bounds those of one address, so that one address can't end those of others.
	maxStrangersOfAddress = 64
	// strangerPatience is how long a stranger may keep the hub waiting for bytes before a newcomer
	// may take its place. Within it a backend goes on with its handshake: so newcomers, however
	// many, can't end that.
	strangerPatience = 100 * time.Millisecond
	// strangerTime is how long a connection may be without a call that has a valid credential. Kubernetes opens a
	// connection for each probe.
	strangerTime = 10 * time.Second
	// strangerBytes is how much a connection may send before such a call, above TLS: preface, settings, headers
	// (maxHeaderBytes), and small requests of open methods.
	strangerBytes = 64 << 10
	// strangersLogInterval is the least time between two log lines about strangers.
	strangersLogInterval = time.Minute
)

// strangerEnd is why a stranger's connection was ended by the hub.
type strangerEnd string

const (
	endedTime    strangerEnd = "time"    // no credential within strangerTime
	endedBytes   strangerEnd = "bytes"   // more than strangerBytes without a credential
	endedRoom    strangerEnd = "room"    // one of maxStrangers was one too many
	endedAddress strangerEnd = "address" // one of maxStrangersOfAddress was
	endedFull    strangerEnd = "full"    // one of Config.MaxConnections was, known ones too
)

var strangerEnds = []strangerEnd{endedTime, endedBytes, endedRoom, endedAddress, endedFull}

// place is where a connection stands in the lists of strangers. nil: it is not listed.
type place struct{ all, ofAddress *list.Element }

// strangers are the connections that have shown no credential: few, and short-lived.
type strangers struct {
	// Static.
	logger                        *slog.Logger
	ended                         *prometheus.CounterVec
	most, mostOfAddress, mostOpen int // strangers; those of one address; connections at once, known ones too (0: any number)

	mu        sync.Mutex
	open      int                   // connections
	all       list.List             // of *inbound, the oldest first
	ofAddress map[string]*list.List // the same, by inbound.address
	accepted  map[net.Conn]*inbound // whose handshake has not begun
	logged    time.Time             // when the last line was
	unlogged  map[strangerEnd]int   // since then
}

// newStrangers bounds a port that may have mostOpen connections at once; 0: any number. Strangers are half of them at most.
func newStrangers(logger *slog.Logger, mostOpen int) *strangers {
	most := maxStrangers
	if mostOpen > 0 {
		most = min(most, (mostOpen+1)/2)
	}
	return &strangers{
		most: most, mostOfAddress: min(most, maxStrangersOfAddress), mostOpen: mostOpen,
		logger: logger, ofAddress: make(map[string]*list.List), accepted: make(map[net.Conn]*inbound), unlogged: make(map[strangerEnd]int),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "connhub_grpc_strangers_closed_total",
			Help: "Connections of the gRPC API that the hub closed because they had shown no valid credential, by reason: time, bytes, " +
				"room (too many in all), address (too many of one address), full (the port has no room for another connection).",
		}, []string{"reason"}),
	}
}

// count returns how many there are.
func (s *strangers) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all.Len()
}

// add lists a connection that was accepted, and ends one where there are too many.
func (s *strangers) add(raw net.Conn) *inbound {
	c := &inbound{raw: raw, address: addressOf(raw), strangers: s}
	c.beginWaiting()
	tooMany, why := s.list(c)
	if tooMany != nil {
		s.end(tooMany, why)
	}
	return c
}

// listener lists each connection when it is accepted: gRPC's goroutines for their handshakes may begin much later.
type listener struct {
	net.Listener

	strangers *strangers
}

// Accept returns the next connection, as it is: a wrapped one would cost the options that gRPC sets on TCP connections.
func (l listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err == nil {
		in := l.strangers.add(raw)
		l.strangers.mu.Lock()
		l.strangers.accepted[raw] = in
		l.strangers.mu.Unlock()
	}
	return raw, err //nolint:wrapcheck // gRPC looks at it
}

// take returns an accepted connection whose handshake begins.
func (s *strangers) take(raw net.Conn) *inbound {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := s.accepted[raw]
	delete(s.accepted, raw)
	return in
}

// list lists a connection. It returns one that is one too many, and why; nil: none.
func (s *strangers) list(c *inbound) (*inbound, strangerEnd) {
	s.mu.Lock()
	defer s.mu.Unlock()
	mine := s.ofAddress[c.address]
	if mine == nil {
		mine = list.New()
		s.ofAddress[c.address] = mine
	}
	c.counted = true
	s.open++
	c.place = place{s.all.PushBack(c), mine.PushBack(c)}
	c.timer = time.AfterFunc(strangerTime, func() { s.end(c, endedTime) })
	switch {
	case mine.Len() > s.mostOfAddress:
		return s.chooseLocked(mine), endedAddress
	case s.all.Len() > s.most:
		return s.chooseLocked(&s.all), endedRoom
	case s.mostOpen > 0 && s.open > s.mostOpen:
		return s.chooseLocked(&s.all), endedFull
	}
	return nil, ""
}

// chooseLocked returns the stranger to end of a list that has one: of those that have kept the hub
// waiting for strangerPatience, of the address with most strangers, the one that does so for
// longest. If there is none, it is the newest of the address with most strangers: that has had the
// least done for it.
func (s *strangers) chooseLocked(among *list.List) *inbound {
	deadline := time.Now().Add(-strangerPatience).UnixNano()
	var idle, newest *inbound
	var since int64 // when the hub began to wait for idle
	for e := among.Back(); e != nil; e = e.Prev() {
		c := e.Value.(*inbound)
		if newest == nil || s.besideLocked(c) > s.besideLocked(newest) {
			newest = c
		}
		began := c.waiting.Load()
		if began == 0 || began > deadline {
			continue
		}
		var more int
		if idle != nil {
			more = s.besideLocked(c) - s.besideLocked(idle)
		}
		if idle == nil || more > 0 || more == 0 && began <= since {
			idle, since = c, began
		}
	}
	if idle != nil {
		return idle
	}
	return newest
}

// besideLocked returns how many strangers the address of a stranger has.
func (s *strangers) besideLocked(c *inbound) int { return s.ofAddress[c.address].Len() }

// remove takes a connection from the list: it is known, or over. It reports whether the connection was listed.
func (s *strangers) remove(c *inbound) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.place.all == nil {
		return false
	}
	c.timer.Stop()
	s.all.Remove(c.place.all)
	mine := s.ofAddress[c.address]
	if mine.Remove(c.place.ofAddress); mine.Len() == 0 {
		delete(s.ofAddress, c.address)
	}
	c.place = place{}
	return true
}

// forget takes a connection that is closed out of the count of all.
func (s *strangers) forget(c *inbound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.counted {
		c.counted = false
		s.open--
	}
}

// end closes a connection, unless it is known or over. Its transport ends when it reads.
func (s *strangers) end(c *inbound, why strangerEnd) {
	if !s.remove(c) {
		return
	}
	_ = c.raw.Close() // the transport closes what is above
	s.forget(c)
	s.ended.WithLabelValues(string(why)).Inc()
	s.log(c, why)
}

// log writes a line, at most one each strangersLogInterval: how many connections were ended since the last one, by why.
func (s *strangers) log(c *inbound, why strangerEnd) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlogged[why]++
	now := time.Now()
	if !s.logged.IsZero() && now.Sub(s.logged) < strangersLogInterval {
		return
	}
	s.logged = now
	attributes := []any{slog.String("address", c.address)}
	for _, why := range strangerEnds {
		attributes = append(attributes, slog.Int(string(why), s.unlogged[why]))
	}
	clear(s.unlogged)
	s.logger.Warn("closed control connections that have shown no credential", attributes...)
}

// addressOf returns the address of the other side, without its port; of IPv6 the /64, which one
// host may have to itself.
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
