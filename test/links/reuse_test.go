package links

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/test/bed"
)

// churnRole is clients that come and go as fast as they can, in a process of their own.
const churnRole = "churn"

const (
	// churners come and go at once.
	churners = 16
	// churnTurns is how often each of them does in the short form.
	churnTurns = 15
	// churnMessages is the number of messages to each connection, each of churnBytes: together more
	// than a socket accepts at once.
	churnMessages = 5
	churnBytes    = 40_000
)

// churnOrder tells churners where to go.
type churnOrder struct {
	Clients, Control string
	Secure           bool
	Seed             uint64
	Turns            int // how often each churner comes
}

// churnNews has the findings of the churners.
type churnNews struct {
	Whole, Broken int // connections that stayed for all messages, and connections that went earlier
	Messages      int
}

// serveChurn is the life of the churners' process.
func serveChurn() error {
	return bed.AnswerLines(func(o churnOrder) (any, error) { return o.run() })
}

func (o *churnOrder) run() (churnNews, error) {
	conn, err := grpc.NewClient(o.Control, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return churnNews{}, err
	}
	defer conn.Close()
	all := make([]churnNews, churners)
	failed := make([]error, churners)
	var group sync.WaitGroup
	for i := range churners {
		group.Go(func() {
			c := churner{
				order: o, number: i, random: rand.New(rand.NewPCG(o.Seed, uint64(i))),
				backend: controlv1.NewDeliveryServiceClient(conn),
			}
			for turn := range o.Turns {
				if failed[i] = c.turn(turn); failed[i] != nil {
					break
				}
			}
			c.sending.Wait()
			all[i] = c.news
		})
	}
	group.Wait()
	var sum churnNews
	for _, n := range all {
		sum = churnNews{sum.Whole + n.Whole, sum.Broken + n.Broken, sum.Messages + n.Messages}
	}
	return sum, errors.Join(failed...)
}

// churner is a client that connects, lets a backend send to it, disconnects in one of all possible
// ways, and connects again at once. The hub then has a new socket with the number of a socket that
// is just gone, and to which a goroutine may still be writing.
type churner struct {
	order   *churnOrder
	number  int
	random  *rand.Rand
	backend controlv1.DeliveryServiceClient
	sending sync.WaitGroup

	news churnNews
}

// turn is the life of a connection.
func (c *churner) turn(turn int) error {
	user := fmt.Sprintf("churner-%d-%d", c.number, turn)
	p := party{
		Address: c.order.Clients, Path: "/ws?user=" + user, Secure: c.order.Secure,
		Manners: churning, Network: 1,
	}
	began := time.Now()
	one, err := p.dial(c.number)
	if err != nil {
		return fmt.Errorf("%s, dialling for %v: %w", user, time.Since(began), err)
	}
	defer one.Conn.Close()
	// It goes on when the connection is gone.
	c.sending.Go(func() { c.send(user) })
	if err := one.Conn.SetReadDeadline(time.Now().Add(bed.CallLimit / 2)); err != nil {
		return err
	}
	stays := c.random.IntN(4) == 0
	reads := churnMessages
	if !stays {
		reads = c.random.IntN(churnMessages)
	}
	var buffer []byte
	for n := range reads {
		_, message, err := one.ReadFrame(buffer)
		if err != nil {
			return fmt.Errorf("%s, message %d: %w", user, n, err)
		}
		if want := churnBody(user, n); string(message) != want {
			return fmt.Errorf(
				"%s got %.60q, %d bytes, want %.60q", user, message, len(message), want,
			)
		}
		buffer = message[:0]
		c.news.Messages++
	}
	if stays {
		c.news.Whole++
	} else {
		c.news.Broken++
	}
	if err := c.leave(one); err != nil {
		return fmt.Errorf("%s, leaving: %w", user, err)
	}
	return nil
}

// leave ends a connection.
func (c *churner) leave(one *bed.Client) error {
	switch c.random.IntN(5) {
	case 0: // says goodbye, and does not wait for the answer
		_, err := one.Conn.Write(bed.MaskedFrame(bed.OpClose, []byte("\x03\xe8")))
		return ignoreGone(err)
	case 1: // in the middle of a message
		return errors.Join(ignoreGone(beginMessage(one, halting)), reset(one.Conn))
	case 2: // behind a fault, which the hub answers
		_, err := one.Conn.Write([]byte{0, 0, 0, 0})
		return ignoreGone(err)
	case 3:
		return reset(one.Conn)
	default:
		return nil
	}
}

// ignoreGone is for a client that the hub has closed already.
func ignoreGone(err error) error {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return nil
	}
	return err
}

// send sends to a connection. If the connection is gone, the message has no recipient.
func (c *churner) send(user string) {
	for n := range churnMessages {
		_, _ = c.backend.Send(context.Background(), &controlv1.SendRequest{
			Target:  &controlv1.Target{Users: []string{user}},
			Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: churnBody(user, n)}},
		})
	}
}

// churnBody is a message that names its connection from its first byte to its last.
func churnBody(user string, number int) string {
	line := fmt.Sprintf("%s %d. ", user, number)
	return strings.Repeat(line, churnBytes/len(line))
}

// TestReusedSocketsBelongToTheNewClient proves that no byte for a connection reaches a different
// connection, though the hub's sockets have the numbers of sockets that were just closed, with
// writes to them in progress and their events still to come.
func TestReusedSocketsBelongToTheNewClient(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	eachDoor(t, func(t *testing.T, d door) {
		// so that the hub cuts silent clients while others come
		p := d.open(t, "--close-timeout", "100ms")
		h := bed.StartHelper(t, churnRole)
		order := churnOrder{
			Clients: p.Clients, Control: p.Control, Secure: d.secure, Seed: seed, Turns: 1,
		}
		churn(t, p, h, order)
		before := remainsOf(t, p, anything)
		order.Turns = bed.Either(churnTurns, 25*churnTurns)
		news, highest := churn(t, p, h, order)
		after := remainsOf(t, p, before.Vitals)
		t.Logf("%+v; sockets up to number %d; before %+v, after %+v", news, highest, before, after)
		if news.Whole == 0 || news.Broken == 0 {
			t.Errorf("%+v: the test proves less than it should", news)
		}
		if connections := news.Whole + news.Broken; connections < 2*highest {
			t.Errorf("%d connections on sockets up to number %d: hardly any was used again",
				connections, highest)
		}
		after.check(t, before)
	})
}

// churn runs the churners, and returns the highest number of a socket that the hub had meanwhile.
func churn(
	t *testing.T, p *bed.Process, h *bed.Helper, o churnOrder,
) (news churnNews, highest int) {
	t.Helper()
	h.Tell(t, o)
	pause := time.NewTicker(20 * time.Millisecond)
	defer pause.Stop()
	for {
		select {
		case line, ok := <-h.Answers:
			h.Understand(t, line, ok, &news)
			return news, highest
		case <-pause.C:
			highest = max(highest, highestSocket(t, p))
		}
	}
}

// highestSocket is the highest number of a socket that the process has open.
func highestSocket(t *testing.T, p *bed.Process) (highest int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", p.PID())
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		n, err := strconv.Atoi(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		// else it was closed meanwhile
		if to, err := os.Readlink(filepath.Join(dir, f.Name())); err == nil &&
			strings.HasPrefix(to, "socket:") {
			highest = max(highest, n)
		}
	}
	return highest
}
