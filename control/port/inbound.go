package port

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/connhub/connhub/auth"
)

// errStranger ends the reads of a stranger's connection that the port has closed.
var errStranger = errors.New("the connection has shown no credential")

// inbound is a connection to the control port. It begins as a stranger's. From its first call with
// a valid credential on it is known.
type inbound struct {
	net.Conn // above TLS; nil during the handshake

	// Static.
	raw     net.Conn // the accepted connection
	address string   // remote, as addressOf returns it
	gate    *gate

	known atomic.Bool
	// of a stranger: a call was refused or incomplete, so it may not stand in reserve
	faulted atomic.Bool
	// since when the hub waits for bytes of a stranger, in ns since 1970; 0: not now
	waiting   atomic.Int64
	openCalls atomic.Int32 // calls in flight of methods that need no credential
	calls     atomic.Int32 // calls and streams in flight
	lastCall  atomic.Int64 // when the last call began or ended, in ns since 1970

	// Owned by the transport's reader.
	read int // bytes

	mu       sync.Mutex          // held while budget.mu is taken
	accounts map[string]*account // by credential
	closed   bool                // its accounts have ended

	// Guarded by gate.mu.
	timer     *time.Timer // of a stranger: the next review
	place     place
	counted   bool    // in gate.open
	shaken    bool    // TLS is set up
	inReserve bool    // of a stranger: any newcomer may take its place
	holder    *holder // of its credential; nil: of a stranger
	refused   bool    // refused, because its credential had its share
}

// beginWaiting records that the hub waits for bytes of a stranger.
func (c *inbound) beginWaiting() { c.waiting.Store(time.Now().UnixNano()) }

// waitedConn is an accepted connection, below TLS. It records since when the hub waits for bytes of
// a stranger.
type waitedConn struct {
	net.Conn

	in *inbound
}

// Read implements net.Conn.
func (c *waitedConn) Read(b []byte) (int, error) {
	if c.in.known.Load() {
		return c.Conn.Read(b)
	}
	c.in.beginWaiting()
	defer c.in.waiting.Store(0)
	return c.Conn.Read(b)
}

// Read implements net.Conn. A stranger may send StrangerBytes.
func (c *inbound) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.known.Load() {
		if c.read += n; c.read > StrangerBytes {
			c.gate.endStranger(c, endedBytes)
			return 0, errStranger
		}
	}
	return n, err
}

// Close implements net.Conn.
func (c *inbound) Close() error {
	c.gate.removeStranger(c)
	defer c.gate.forgetConn(c)
	defer c.endAccounts()
	return c.Conn.Close()
}

// endAccounts gives back the bytes of answers that the transport will not write any more.
func (c *inbound) endAccounts() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, a := range c.accounts {
		a.endAnswers()
	}
}

// becomeKnown makes the connection known by a credential that a call on it has shown. It reports
// false if the credential has its share of the port. The transport's reader calls it.
func (c *inbound) becomeKnown(who auth.Identity) bool {
	return c.known.Load() || c.gate.makeKnown(c, who)
}

// countCall counts a call until uncountCall; c may be nil.
func (c *inbound) countCall(now time.Time) {
	if c != nil {
		c.calls.Add(1)
		c.lastCall.Store(now.UnixNano())
	}
}

// uncountCall records the end of a call; c may be nil.
func (c *inbound) uncountCall(now time.Time) {
	if c != nil {
		c.lastCall.Store(now.UnixNano())
		c.calls.Add(-1)
	}
}

// accountFor returns the account of a credential on this connection. The transport's reader calls
// it.
func (c *inbound) accountFor(credential string, b *budget) *account {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.accounts[credential]
	if a == nil {
		if c.accounts == nil {
			c.accounts = make(map[string]*account, 1)
		}
		a = b.openAccount(credential)
		c.accounts[credential] = a
		a.ended = c.closed
	}
	return a
}

// inboundInfo leads from a call to its connection.
type inboundInfo struct {
	credentials.AuthInfo

	conn *inbound
}

// inboundOf returns the connection of a call; nil if it has none, in a test.
func inboundOf(ctx context.Context) *inbound {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(*inboundInfo)
	if !ok {
		return nil
	}
	return info.conn
}

// countedCredentials gives gRPC the inbound of each connection that a listener has listed.
type countedCredentials struct {
	credentials.TransportCredentials

	gate *gate
}

// ServerHandshake implements credentials.TransportCredentials.
func (c countedCredentials) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	in := c.gate.beginHandshake(raw)
	conn, info, err := c.TransportCredentials.ServerHandshake(&waitedConn{raw, in})
	if err != nil {
		c.gate.removeStranger(in)
		_ = raw.Close() // as gRPC does next
		c.gate.forgetConn(in)
		return nil, nil, err
	}
	c.gate.endHandshake(in, conn)
	return in, &inboundInfo{info, in}, nil
}

// Clone implements credentials.TransportCredentials.
func (c countedCredentials) Clone() credentials.TransportCredentials {
	return countedCredentials{c.TransportCredentials.Clone(), c.gate}
}
