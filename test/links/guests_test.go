package links

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// guestsRole is the role of clients by the thousand, in a process of their own. Each has the
// ordered manners.
const guestsRole = "guests"

// manners are how a guest behaves once it is in.
type manners string

const (
	// attentive guests read, check each message, and answer pings and the close.
	attentive manners = "attentive"
	// insistent guests are attentive, and send pings all the time, most of them in the middle of a
	// message.
	insistent manners = "insistent"
	// deaf guests do not read, and their kernel keeps little for them. They give signs of life, so
	// that pings do not detect them.
	deaf manners = "deaf"
	// absent guests do not read either, and get nothing but pings.
	absent manners = "absent"
	// halting: sends the header of a small frame, no more, and hears how that ends.
	halting manners = "halting"
	// longwinded: sends the first part of a large frame, no more, and hears how that ends.
	longwinded manners = "longwinded"
	// abrupt: goes with a reset as soon as it is in, and comes again, so many times.
	abrupt manners = "abrupt"
	// churning: comes and goes: reuse_test.go.
	churning manners = "churning"
)

// guestOrder is an order to guests: to Come, to wait until each attentive guest has heard so many
// messages, or to wait until all are gone.
type guestOrder struct {
	Come  *party
	Heard int
	Gone  bool
}

// party is guests that come together.
type party struct {
	Clients       int
	Manners       manners
	Address, Path string
	Secure        bool
	// the guests' addresses are 127.0.Network.x: a single address has too few ports for them
	Network int
	Times   int // how often the abrupt come
}

// guestNews is how the guests stand.
type guestNews struct {
	Guests       int
	Least, Most  int            // messages of a listening guest
	Pings, Pongs int            // of the insistent, all together
	Ends         map[string]int // how often a connection ended in which way
	Wrong        []string       // the first unexpected thing
}

// serveGuests is the life of the guests' process.
func serveGuests() error {
	g := guests{ends: map[string]int{}}
	return bed.AnswerLines(func(o guestOrder) (any, error) {
		var err error
		switch {
		case o.Come != nil:
			err = g.come(o.Come)
		case o.Gone:
			g.staying.Wait()
			return g.leave(), nil
		default:
			err = g.await(o.Heard)
		}
		return g.news(), err
	})
}

// guests are the clients of a process.
type guests struct {
	staying sync.WaitGroup // the goroutines that read or ping

	mu    sync.Mutex
	all   []*guest
	ends  map[string]int
	wrong []string
}

// guest is a client that is in.
type guest struct {
	*bed.Client

	heard        atomic.Int64  // messages
	listens      bool          // to the end, and has to hear all
	turns        chan struct{} // tells the insistent that it is time for pings; nil: it is not
	pings, pongs atomic.Int64
	answered     uint64 // the ping that the last pong answered; owned by the reader
	house        *guests
}

// mostWrong is how many complaints are kept.
const mostWrong = 5

// come brings a party in.
func (g *guests) come(p *party) error {
	var group sync.WaitGroup
	failed := make(chan error, p.Clients)
	quiet := g.murmur()
	slots := make(chan struct{}, bed.HandshakesAtOnce)
	for i := range p.Clients {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			for range p.visits() {
				if err := g.enter(p, i); err != nil {
					failed <- fmt.Errorf("guest %d: %w", i, err)
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	var first []error
	for err := range failed {
		if first = append(first, err); len(first) == 3 {
			break
		}
	}
	if p.Manners != deaf { // the others are alive by themselves, or not meant to be
		quiet()
	}
	return errors.Join(append(first, g.beginAll(p))...)
}

// beginAll lets the guests begin that stop in the middle of a message. They begin together,
// regardless of the time that their handshakes took.
func (g *guests) beginAll(p *party) error {
	if p.Manners != halting && p.Manners != longwinded {
		return nil
	}
	for _, one := range g.all {
		if err := beginMessage(one.Client, p.Manners); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		g.staying.Go(func() { g.ended(hearOut(one.Client)) })
	}
	return nil
}

// visits is how often each guest of the party comes.
func (p *party) visits() int {
	if p.Manners == abrupt {
		return p.Times
	}
	return 1
}

// enter connects a guest, and lets it begin.
func (g *guests) enter(p *party, number int) error {
	c, err := p.dial(number)
	if err != nil {
		return err
	}
	one := &guest{Client: c, house: g}
	switch p.Manners {
	case attentive, insistent:
		one.listens = true
		if p.Manners == insistent {
			one.Pong, one.turns = one.checkPong, make(chan struct{}, 1)
			one.Reader = bufio.NewReaderSize(turning{c.Reader, one.turns}, turnBytes)
			g.staying.Go(one.insist)
		}
		g.staying.Go(func() {
			g.ended(one.Read(one.check))
			if one.turns != nil {
				close(one.turns)
			}
		})
	case abrupt:
		return reset(c.Conn)
	case halting, longwinded, deaf, absent, churning: // say nothing yet, or ever
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, one)
	return nil
}

// dial connects a guest of the party.
func (p *party) dial(number int) (*bed.Client, error) {
	dialer := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(p.Network), byte(1+number%100))},
		Timeout:   bed.HandshakeLimit,
	}
	switch p.Manners {
	case deaf:
		dialer.Control = setting(shortSegments, keeps(1)) // the least that there is
	case insistent:
		dialer.Control = setting(shortSegments, keeps(16<<10))
	case churning:
		dialer.Control = setting(shortSegments)
	default:
	}
	conn, err := dialer.Dial("tcp", p.Address)
	if err != nil {
		return nil, err
	}
	if p.Secure {
		conn = tls.Client(conn, clientTLS)
	}
	return bed.NewClient(conn, p.Address, p.Path, "")
}

// narrow makes a socket's receive buffer as small as the kernel allows, before the handshake, so
// that a client that does not read fills up soon.
var narrow = setting(keeps(1))

// option is an option of a socket, as setsockopt(2) takes it.
type option struct{ level, name, value int }

// keeps limits the received bytes that the kernel keeps to about so many.
func keeps(bytes int) option { return option{syscall.SOL_SOCKET, syscall.SO_RCVBUF, bytes} }

// setting sets options of a socket before it connects.
func setting(options ...option) func(network, address string, raw syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			for _, o := range options {
				failed = errors.Join(
					failed, syscall.SetsockoptInt(int(fd), o.level, o.name, o.value),
				)
			}
		})
		return errors.Join(err, failed)
	}
}

// shortSegments makes the hub's kernel send segments as on a real network, and so keep little of
// the data to be sent.
var shortSegments = option{syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1400}

// reset closes a connection without a farewell: the hub gets a RST.
func reset(conn net.Conn) error {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	return errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close())
}

const (
	// smallFrame and largeFrame are the sizes of frames that are announced and never finished. A
	// hub reads a frame of the first size as a whole, and cannot do so with the second.
	smallFrame = 100
	largeFrame = 64 << 10
	// largePart is the part of the large frame that is sent.
	largePart = 20 << 10
)

// beginMessage sends the beginning of a message. The mask is zero.
func beginMessage(c *bed.Client, m manners) error {
	b := []byte{bed.FinBit | bed.OpBinary, bed.MaskBit | smallFrame, 0, 0, 0, 0}
	if m == longwinded {
		b = []byte{
			bed.FinBit | bed.OpBinary, bed.MaskBit | 127,
			0, 0, 0, 0, 0, largeFrame >> 16, 0, 0, 0, 0, 0, 0,
		}
		b = append(b, make([]byte, largePart)...)
	}
	_, err := c.Conn.Write(b)
	return err
}

// hearOut reads until the end, and says nothing: it is in the middle of a message.
func hearOut(c *bed.Client) error {
	defer c.Conn.Close()
	for {
		opcode, payload, err := c.ReadFrame(nil)
		if err != nil {
			return err
		}
		if opcode == bed.OpClose {
			return bed.ParseClose(payload)
		}
	}
}

// ended counts how a connection ended.
func (g *guests) ended(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ends[err.Error()]++
}

// complain keeps the first unexpected thing.
func (g *guests) complain(format string, args ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.wrong) < mostWrong {
		g.wrong = append(g.wrong, fmt.Sprintf(format, args...))
	}
}

// bodyOf returns the text of a message. Most are small. Some are larger than the kernels' buffers
// for the insistent guests, whose pings arrive while half of such a frame is written.
func bodyOf(number int) string {
	sizes := [...]int{20, 128, 700, 20, 4000, 128, 20, 100_000}
	line := fmt.Sprintf("message %d. ", number)
	return strings.Repeat(line, 1+sizes[number%len(sizes)]/len(line))
}

// check compares a message with the expected message.
func (g *guest) check(message []byte) {
	next := int(g.heard.Load())
	if want := bodyOf(next); string(message) != want {
		g.house.complain("got %.60q, %d bytes, where %.60q, %d bytes, is next",
			message, len(message), want, len(want))
	}
	g.heard.Add(1)
}

// turnBytes is more than there is of pongs at any time, so that these bring forth no more pings.
const turnBytes = 4 << 10

// turning signals the time for pings with each large piece that arrives: the hub then often holds
// the rest of a frame.
type turning struct {
	io.Reader

	turns chan<- struct{}
}

func (r turning) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	if n < turnBytes/2 {
		return n, err
	}
	select {
	case r.turns <- struct{}{}:
	default: // it pings, and has enough to do
	}
	return n, err
}

// pingsEach is the number of pings of an insistent guest for each such piece. A large message has
// many pieces.
const pingsEach = 5

// insist pings as long as messages come, each time with another payload.
func (g *guest) insist() {
	n := uint64(0)
	for range g.turns {
		for range pingsEach {
			n++
			if _, err := g.Conn.Write(
				bed.MaskedFrame(bed.OpPing, binary.BigEndian.AppendUint64(nil, n)),
			); err != nil {
				return
			}
			g.pings.Add(1)
		}
	}
}

// murmur makes guests give signs of life, unsolicited pongs, until quiet is called or the process
// ends.
func (g *guests) murmur() (quiet func()) {
	stop := make(chan struct{})
	var murmuring sync.WaitGroup
	murmuring.Go(func() {
		pause := time.NewTicker(500 * time.Millisecond)
		defer pause.Stop()
		pong := bed.MaskedFrame(bed.OpPong, nil)
		for {
			select {
			case <-stop:
				return
			case <-pause.C:
			}
			g.mu.Lock()
			all := slices.Clone(g.all)
			g.mu.Unlock()
			for _, one := range all {
				_, _ = one.Conn.Write(pong) // it may be gone
			}
		}
	})
	return func() {
		close(stop)
		murmuring.Wait()
	}
}

// checkPong checks that a pong answers a ping that is newer than the last answered ping. Not every
// ping gets a pong: RFC 6455 §5.5.3.
func (g *guest) checkPong(payload []byte) {
	if len(payload) != 8 || binary.BigEndian.Uint64(payload) <= g.answered {
		g.house.complain("got a pong % x, the last was %d", payload, g.answered)
		return
	}
	g.answered = binary.BigEndian.Uint64(payload)
	g.pongs.Add(1)
}

// await waits until each listening guest has heard so many messages.
func (g *guests) await(messages int) error {
	p := testkit.NewPatience()
	defer p.Stop()
	for n := g.news(); n.Least < messages; n = g.news() {
		<-p.Turn()
		if len(n.Ends)+len(n.Wrong) > 0 || p.IsOver() {
			return fmt.Errorf("want %d messages, have %+v", messages, n)
		}
	}
	return nil
}

// leave forgets the guests that are gone.
func (g *guests) leave() guestNews {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.newsLocked()
	g.all, g.ends, g.wrong = nil, map[string]int{}, nil
	return n
}

func (g *guests) news() guestNews {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.newsLocked()
}

func (g *guests) newsLocked() guestNews {
	n := guestNews{Guests: len(g.all), Ends: maps.Clone(g.ends), Wrong: g.wrong, Least: -1}
	for _, one := range g.all {
		if !one.listens {
			continue
		}
		heard := int(one.heard.Load())
		if n.Least < 0 || heard < n.Least {
			n.Least = heard
		}
		n.Most = max(n.Most, heard)
		n.Pings += int(one.pings.Load())
		n.Pongs += int(one.pongs.Load())
	}
	return n
}
