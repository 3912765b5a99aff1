package control

import (
	"container/list"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// maxStrangers bounds the connections that have shown no credential. Each costs about 100 KB for gRPC's
	// buffers and TLS. A backend shows its credential with its first call, within milliseconds, so many
	// backends can connect at once. One connection too many ends the oldest one, not itself: so strangers that
	// stay can't keep backends out.
	maxStrangers = 256
	// maxStrangersOfAddress bounds those of one address, so that one address can't end those of others.
	maxStrangersOfAddress = 64
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
	endedRoom    strangerEnd = "room"    // the oldest of maxStrangers
	endedAddress strangerEnd = "address" // the oldest of maxStrangersOfAddress
	endedFull    strangerEnd = "full"    // the oldest, or the newest if the others are known: Config.MaxConnections
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
	ofAddress map[string]*list.List // the same, by address
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

// add lists a connection that was accepted, and ends the oldest one where there are too many.
func (s *strangers) add(raw net.Conn) *inbound {
	c := &inbound{raw: raw, address: addressOf(raw), strangers: s}
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
		return mine.Front().Value.(*inbound), endedAddress
	case s.all.Len() > s.most:
		return s.all.Front().Value.(*inbound), endedRoom
	case s.mostOpen > 0 && s.open > s.mostOpen:
		return s.all.Front().Value.(*inbound), endedFull // there is one: c
	}
	return nil, ""
}

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

// addressOf returns the address of the other side, without its port.
func addressOf(c net.Conn) string {
	address := c.RemoteAddr().String()
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return address
}
