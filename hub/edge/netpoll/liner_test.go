package netpoll_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/connhub/connhub/hub/edge/netpoll"
)

// liner is an Owner whose wire is lines of text. It hands each line to its test.
type liner struct {
	socket netpoll.Socket
	handle func(line string) // called by ServeReadable

	// Owned by ServeReadable.
	line   []byte // the line that is longer than the socket's buffer, as far as it has come
	over   bool
	reason error // the end of the input; static after ended

	ended chan struct{} // closed when the socket is closed

	// Guarded by the socket's lock.
	out    [][]byte // lines to be written
	waits  bool     // the socket has the first of out
	broken error    // of a write
	finish func()   // runs once all is written; nil: it has run, or there is none
}

func (l *liner) ServeReadable() bool {
	for !l.over {
		err := l.readLine()
		switch {
		case errors.Is(err, netpoll.ErrIdle) && len(l.line) > 0:
			l.socket.Wait()
		case errors.Is(err, netpoll.ErrIdle):
			return false
		case err != nil:
			l.over, l.reason = true, err
			l.finishWith(l.socket.HangUp)
		}
	}
	if l.socket.Discard() != nil {
		return false
	}
	l.socket.Close()
	close(l.ended)
	return true
}

// readLine handles the next line. It takes a line that is longer than the socket's buffer piece by
// piece.
func (l *liner) readLine() error {
	have := l.socket.Buffered()
	end := bytes.IndexByte(have, '\n') + 1
	begun := len(l.line) > 0
	if end == 0 && len(have) < l.socket.BufferSize() && (!begun || len(have) == 0) {
		return l.socket.Fill(begun)
	}
	if end == 0 {
		end = len(have)
	}
	piece := make([]byte, end)
	n, err := l.socket.Read(piece)
	l.line = append(l.line, piece[:n]...)
	if line, whole := bytes.CutSuffix(l.line, []byte("\n")); whole {
		l.line = nil
		l.socket.EndMessage()
		l.handle(string(line))
	}
	return err
}

func (l *liner) ServeWritable() {
	l.socket.Lock()
	l.waits = false
	l.writeAndUnlock()
}

// send writes text, behind all that was sent before.
func (l *liner) send(text string) {
	l.socket.Lock()
	l.out = append(l.out, []byte(text))
	l.writeAndUnlock()
}

// finishWith runs do once all is written.
func (l *liner) finishWith(do func()) {
	l.socket.Lock()
	l.finish = do
	l.writeAndUnlock()
}

func (l *liner) writeAndUnlock() {
	for !l.waits && len(l.out) > 0 {
		n, err := l.socket.TryWriteLocked(l.out[0])
		l.out[0] = l.out[0][n:]
		switch {
		case err != nil:
			l.broken, l.out = err, nil
		case len(l.out[0]) == 0:
			l.out = l.out[1:]
		default:
			l.waits = true
			l.socket.AwaitRoomLocked(l.out[0])
		}
	}
	finish := l.finish
	if len(l.out) > 0 {
		finish = nil
	} else {
		l.finish = nil
	}
	l.socket.Unlock()
	if finish != nil {
		finish()
	}
}

// isBacklogged reports whether the socket did not take all at once.
func (l *liner) isBacklogged() bool {
	l.socket.Lock()
	defer l.socket.Unlock()
	return len(l.out) > 0
}

// bench makes liners on sockets of a kind.
type bench struct {
	t        *testing.T
	blocking bool
	secure   *tls.Config // of the server; nil: no TLS
	trust    *tls.Config // of the client
	timeout  time.Duration

	poller     *netpoll.Poller
	goroutines sync.WaitGroup
	listener   net.Listener
}

// eachKind runs a test on each kind of socket.
func eachKind(t *testing.T, timeout time.Duration, test func(t *testing.T, b *bench)) {
	t.Helper()
	for _, kind := range []struct {
		name             string
		blocking, secure bool
	}{
		{name: "parked"},
		{name: "parked under TLS", secure: true},
		{name: "blocking", blocking: true},
		{name: "blocking under TLS", blocking: true, secure: true},
	} {
		t.Run(kind.name, func(t *testing.T) {
			b := &bench{t: t, blocking: kind.blocking, timeout: timeout}
			if kind.secure {
				s := httptest.NewTLSServer(nil) // for its certificate
				s.Close()
				b.secure = &tls.Config{Certificates: s.TLS.Certificates}
				roots := x509.NewCertPool()
				roots.AddCert(s.Certificate())
				b.trust = &tls.Config{ServerName: "example.com", RootCAs: roots}
			}
			b.open()
			test(t, b)
		})
	}
}

func (b *bench) open() {
	b.t.Helper()
	b.poller = netpoll.NewPoller(netpoll.Config{
		Started: time.Now(), MessageTimeout: b.timeout, Blocking: b.blocking,
		Goroutines: &b.goroutines,
	})
	var config net.ListenConfig
	l, err := config.Listen(b.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.t.Fatal(err)
	}
	if b.listener = netpoll.NewListener(l); b.secure != nil {
		b.listener = netpoll.NewTLSListener(l, b.secure)
	}
	b.t.Cleanup(func() {
		_ = l.Close()
		b.goroutines.Wait()
		b.poller.Close()
	})
}

// connect returns a liner, and its client.
func (b *bench) connect(handle func(l *liner, line string)) (*liner, net.Conn) {
	b.t.Helper()
	accepted := make(chan net.Conn, 1)
	go func() {
		conn, err := b.listener.Accept()
		if err == nil && b.secure != nil {
			err = conn.(*tls.Conn).HandshakeContext(context.Background())
		}
		if err != nil {
			b.t.Error(err)
		}
		accepted <- conn
	}()
	var dialer net.Dialer
	client, err := dialer.DialContext(b.t.Context(), "tcp", b.listener.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	if b.secure != nil {
		secure := tls.Client(client, b.trust)
		if err := secure.HandshakeContext(b.t.Context()); err != nil {
			b.t.Fatal(err)
		}
		client = secure
	}
	b.t.Cleanup(func() { _ = netpoll.Unwrap(client).Close() })
	l := &liner{ended: make(chan struct{})}
	l.handle = func(line string) { handle(l, line) }
	l.socket.Open(b.poller, l, <-accepted, nil)
	l.socket.Start(func() {})
	return l, client
}
