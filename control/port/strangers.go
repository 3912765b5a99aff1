package port

import (
	"cmp"
	"container/list"
	"time"
)

const (
	// maxStrangers bounds the connections that have shown no credential. Each costs about 50 KB for
	// gRPC's buffers and TLS, and StrangerBytes more at most. So many backends can connect at once.
	// A connection too many takes the place of a connection that stands in reserve or keeps the hub
	// waiting. So strangers that stay can't keep backends out.
	maxStrangers = 256
	// MaxStrangersOfAddress bounds the strangers of an address, so that they can't end the
	// strangers of the rest.
	MaxStrangersOfAddress = 64
	// StrangerPatience is how long a stranger may keep the hub waiting for bytes before a newcomer
	// may take its place. A backend takes less between two steps of its handshake, so newcomers,
	// however many, can't end a handshake.
	StrangerPatience = 100 * time.Millisecond
	// StrangerTime is how long a connection without a valid credential may keep its place.
	// Kubernetes opens a connection for each probe.
	StrangerTime = 10 * time.Second
	// StrangerBytes bounds the bytes that a connection may send before it shows a credential, above
	// TLS: preface, settings, headers (maxHeaderBytes), and small requests of open methods.
	StrangerBytes = 64 << 10
)

// strangerEnd is the reason why the hub ended a stranger's connection.
type strangerEnd string

const (
	endedTime    strangerEnd = "time"    // no handshake, or only wrong calls, within StrangerTime
	endedBytes   strangerEnd = "bytes"   // more than StrangerBytes without a credential
	endedRoom    strangerEnd = "room"    // more than maxStrangers
	endedAddress strangerEnd = "address" // more than MaxStrangersOfAddress
	endedFull    strangerEnd = "full"    // more than Config.MaxConnections, with the known ones
)

var strangerEnds = []strangerEnd{endedTime, endedBytes, endedRoom, endedAddress, endedFull}

// place has the elements of a connection in the lists of the port. nil: it is not in that list.
type place struct{ all, ofAddress, ofHolder *list.Element }

// strangers are the connections that have shown no credential. They are few, and all but those in
// reserve are short-lived. Guarded by gate.mu.
//
// A backend that spreads its calls (gRPC's round_robin) opens a connection to each hub, and may
// call a hub only after minutes. If the hub ended such a connection, gRPC would open it again at
// once. So after StrangerTime a connection whose handshake is complete stands in reserve, unless a
// call of it was wrong (inbound.faulted). It keeps its place for as long as no newcomer needs that;
// gRPC ends it after IdleTimeout without a call, or when it answers no ping. It costs the hub 43
// KB, 54 KB with TLS (BenchmarkSilentConnection), and a ping each pingInterval.
type strangers struct {
	most, mostOfAddress int // in all; of an address

	all       list.List             // of *inbound, the oldest first
	ofAddress map[string]*list.List // the same, by inbound.address
}

func newStrangers(most int) strangers {
	return strangers{
		most: most, mostOfAddress: min(most, MaxStrangersOfAddress),
		ofAddress: make(map[string]*list.List),
	}
}

// listConn adds a connection to the lists.
func (s *strangers) listConn(c *inbound) {
	mine := s.ofAddress[c.address]
	if mine == nil {
		mine = list.New()
		s.ofAddress[c.address] = mine
	}
	c.place = place{all: s.all.PushBack(c), ofAddress: mine.PushBack(c)}
}

// unlistConn takes a listed connection from the lists.
func (s *strangers) unlistConn(c *inbound) {
	s.all.Remove(c.place.all)
	mine := s.ofAddress[c.address]
	if mine.Remove(c.place.ofAddress); mine.Len() == 0 {
		delete(s.ofAddress, c.address)
	}
	c.place.all, c.place.ofAddress = nil, nil
}

// findSurplus returns the stranger to end because of a newcomer, and the reason; nil if there is
// room.
func (s *strangers) findSurplus(newcomer *inbound) (*inbound, strangerEnd) {
	mine := s.ofAddress[newcomer.address]
	switch {
	case mine.Len() > s.mostOfAddress:
		return s.chooseVictim(mine), endedAddress
	case s.all.Len() > s.most:
		return s.chooseVictim(&s.all), endedRoom
	}
	return nil, ""
}

// chooseVictim returns the stranger to end, of a list that is not empty.
//
// The candidates stand in reserve, or have kept the hub waiting for StrangerPatience. Of the
// candidates whose address has most strangers, it is the oldest in reserve, or else the stranger
// that has kept the hub waiting longest. Without candidates it is the newest stranger of the
// address with most strangers, because the hub has done the least for it.
func (s *strangers) chooseVictim(among *list.List) *inbound {
	deadline := time.Now().Add(-StrangerPatience).UnixNano()
	var idle, newest *inbound
	var since int64 // when the hub began to wait for idle; 0: it stands in reserve
	for e := among.Back(); e != nil; e = e.Prev() {
		c := e.Value.(*inbound)
		if newest == nil || s.countOfAddress(c) > s.countOfAddress(newest) {
			newest = c
		}
		began := c.waiting.Load()
		if c.inReserve {
			began = 0
		} else if began == 0 || began > deadline {
			continue
		}
		var more int
		if idle != nil {
			more = s.countOfAddress(c) - s.countOfAddress(idle)
		}
		if idle == nil || more > 0 || more == 0 && began <= since {
			idle, since = c, began
		}
	}
	return cmp.Or(idle, newest)
}

// countOfAddress returns the number of strangers of the address of c.
func (s *strangers) countOfAddress(c *inbound) int { return s.ofAddress[c.address].Len() }
