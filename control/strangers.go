package control

import (
	"container/list"
	"time"
)

const (
	// maxStrangers bounds the connections that have shown no credential. Each costs about 50 KB for
	// gRPC's buffers and TLS, and strangerBytes more at most. So many backends can connect at once.
	// One connection too many takes the place of one that stands in reserve or keeps the hub waiting:
	// so strangers that stay can't keep backends out.
	maxStrangers = 256
	// maxStrangersOfAddress bounds those of one address, so that one address can't end those of others.
	maxStrangersOfAddress = 64
	// strangerPatience is how long a stranger may keep the hub waiting for bytes before a newcomer
	// may take its place. Within it a backend goes on with its handshake: so newcomers, however
	// many, can't end that.
	strangerPatience = 100 * time.Millisecond
	// strangerTime is how long a connection may be without a call that has a valid credential, and
	// keep its place. Kubernetes opens a connection for each probe.
	strangerTime = 10 * time.Second
	// strangerBytes is how much a connection may send before such a call, above TLS: preface, settings, headers
	// (maxHeaderBytes), and small requests of open methods.
	strangerBytes = 64 << 10
)

// strangerEnd is why a stranger's connection was ended by the hub.
type strangerEnd string

const (
	endedTime    strangerEnd = "time"    // no handshake, or only wrong calls, within strangerTime
	endedBytes   strangerEnd = "bytes"   // more than strangerBytes without a credential
	endedRoom    strangerEnd = "room"    // one of maxStrangers was one too many
	endedAddress strangerEnd = "address" // one of maxStrangersOfAddress was
	endedFull    strangerEnd = "full"    // one of Config.MaxConnections was, known ones too
)

var strangerEnds = []strangerEnd{endedTime, endedBytes, endedRoom, endedAddress, endedFull}

// place is where a connection stands in the lists of the port. nil: it is not listed there.
type place struct{ all, ofAddress, ofHolder *list.Element }

// strangers are the connections that have shown no credential: few, and those that have not come
// to stay are short-lived. Guarded by port.mu.
//
// A backend that spreads its calls (gRPC's round_robin) opens a connection to each hub, and may call
// one of them only after minutes. If the hub ended such a connection, gRPC would open it again at
// once. So after strangerTime a connection whose handshake is complete stands in reserve, unless a
// call of it was wrong (inbound.faulted). It keeps its place for as long as no newcomer needs that;
// gRPC ends it after idleTimeout without a call, or when it answers no ping. It costs the hub 43 KB,
// 54 KB with TLS (BenchmarkSilentConnection), and a ping each pingInterval.
type strangers struct {
	most, mostOfAddress int // in all; of one address

	all       list.List             // of *inbound, the oldest first
	ofAddress map[string]*list.List // the same, by inbound.address
}

func newStrangers(most int) strangers {
	return strangers{
		most: most, mostOfAddress: min(most, maxStrangersOfAddress),
		ofAddress: make(map[string]*list.List),
	}
}

// add lists a connection.
func (s *strangers) listConn(c *inbound) {
	mine := s.ofAddress[c.address]
	if mine == nil {
		mine = list.New()
		s.ofAddress[c.address] = mine
	}
	c.place = place{all: s.all.PushBack(c), ofAddress: mine.PushBack(c)}
}

// remove takes a connection that is listed from the list.
func (s *strangers) unlistConn(c *inbound) {
	s.all.Remove(c.place.all)
	mine := s.ofAddress[c.address]
	if mine.Remove(c.place.ofAddress); mine.Len() == 0 {
		delete(s.ofAddress, c.address)
	}
	c.place.all, c.place.ofAddress = nil, nil
}

// tooMany returns the stranger to end because of a newcomer, and why; nil: there is room.
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

// choose returns the stranger to end of a list that has one: of those that stand in reserve or have
// kept the hub waiting for strangerPatience, of the address with most strangers, the oldest in
// reserve, or else the one that has kept the hub waiting longest. If there is none, it is the newest
// of the address with most strangers: that has had the least done for it.
func (s *strangers) chooseVictim(among *list.List) *inbound {
	deadline := time.Now().Add(-strangerPatience).UnixNano()
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
	if idle != nil {
		return idle
	}
	return newest
}

// beside returns how many strangers the address of a stranger has.
func (s *strangers) countOfAddress(c *inbound) int { return s.ofAddress[c.address].Len() }
