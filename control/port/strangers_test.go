package port

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/internal/testkit"
)

// Newcomers, however many, end no handshake that goes on, from their address or from another.
func TestNewcomersDoNotEndAHandshakeThatGoesOn(t *testing.T) {
	for name, addresses := range map[string][]string{
		"of one address":  {"192.0.2.1"},
		"of many":         {"192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5", "192.0.2.6"},
		"of one IPv6 /64": {"2001:db8::1", "2001:db8::2", "2001:db8::3:4", "2001:db8::ffff"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newGate(slogTo(&testkit.LockedBuffer{}), 0)
				backend := &addressedConn{from: "192.0.2.1"}
				in := p.addAccepted(backend)
				var others []*addressedConn
				for range 5 {
					for i := range 2 * maxStrangers {
						conn := &addressedConn{from: addresses[i%len(addresses)]}
						p.addAccepted(conn)
						others = append(others, conn)
					}
					time.Sleep(StrangerPatience / 2)
					in.beginWaiting() // the backend has sent the next part
				}
				if backend.closed || !others[0].closed {
					t.Errorf("closed: the backend %v, a silent stranger %v",
						backend.closed, others[0].closed)
				}
				open := 0
				for _, conn := range others {
					if !conn.closed {
						open++
					}
				}
				if most := min(
					maxStrangers, len(p.strangers.ofAddress)*MaxStrangersOfAddress,
				); open >= most {
					t.Errorf("%d others are open beside it, of %d", open, most)
				}
				in.becomeKnown(backendIdentity)
				time.Sleep(StrangerTime)
				synctest.Wait()
			})
		})
	}
}

// addressedConn is a connection from some address.
type addressedConn struct {
	net.Conn

	from   string
	closed bool
}

func (c *addressedConn) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.ParseIP(c.from), Port: 1}
}

func (c *addressedConn) Close() error {
	c.closed = true
	return nil
}

func TestStrangersAreFewWhateverTheirAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &testkit.LockedBuffer{}
		p := newGate(slogTo(log), 0)
		conns := make([]*addressedConn, 2*maxStrangers)
		var last *inbound
		for i := range conns {
			if i%maxStrangers == 0 {
				time.Sleep(StrangerPatience)
			}
			conns[i] = &addressedConn{from: fmt.Sprintf("10.0.%d.%d", i/100, i%100)}
			last = p.addAccepted(conns[i])
			if n := p.strangerCount(); n != min(i+1, maxStrangers) {
				t.Fatalf("%d strangers after %d connections", n, i+1)
			}
		}
		for i, c := range conns {
			if c.closed != (i < maxStrangers) {
				t.Errorf("connection %d: closed %v", i, c.closed)
			}
		}
		last.becomeKnown(backendIdentity)
		time.Sleep(StrangerTime)
		synctest.Wait()
		if p.strangerCount() != 0 || len(p.strangers.ofAddress) != 0 ||
			conns[len(conns)-1].closed || !conns[len(conns)-2].closed {
			t.Errorf("%d strangers, of %d addresses", p.strangerCount(), len(p.strangers.ofAddress))
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines for as many connections", n)
		}
	})
}
