package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/transfer"
	"github.com/connhub/connhub/internal/testkit"
)

// This file holds moves open, and calls meanwhile. A move is open for as long as the client's
// present command takes: then the old hub still carries out all calls. Or the new hub does not
// answer the last changes: then both hubs hold the calls, and the owner is in doubt.

const (
	// shortWait is the wait of sends that end before the move. A tenth of it is for the way back.
	shortWait = 300 * time.Millisecond
	// longWait is the wait of sends that end behind the move.
	longWait = 5 * time.Minute
)

// heldMove is a move of ann's connection that is held open.
type heldMove struct {
	from, to, third *fixture
	old             *client // at from
	back            *client // at to; nil: it has not come back
	taken           chan struct{}
	release         func() // lets the move go on
}

func (m *heldMove) id() hub.ConnectionID { return m.old.ID() }

// begin has ann's client come to the new hub, which asks for her connection until it has it.
func (m *heldMove) begin(t *testing.T) {
	t.Helper()
	known, _ := resumableProtocol.tokens.Load(m.id())
	token, _ := known.(string)
	m.taken = make(chan struct{})
	go func() {
		defer close(m.taken)
		testkit.Holds(t, func() bool {
			err := m.to.moves().Take(t.Context(), hub.DefaultNamespace, m.id(), token)
			return err == nil || errors.Is(err, hub.ErrResumeRefused)
		})
	}()
	t.Cleanup(func() { m.release(); <-m.taken })
}

// stateAtOld returns what the old hub answers a client that comes back: nil: no move is under way;
// transfer.ErrMoving; hub.ErrConnectionNotFound: the connection is in doubt, or has moved.
func (m *heldMove) stateAtOld(t *testing.T) error {
	t.Helper()
	known, _ := resumableProtocol.tokens.Load(m.id())
	token, _ := known.(string)
	_, err := m.from.hub.Resume(t.Context(), hub.DefaultNamespace, string(m.id()), token)
	return err
}

// finish lets the move go on, and waits until the new hub has the connection.
func (m *heldMove) finish(t *testing.T) {
	t.Helper()
	m.release()
	testkit.Receive(t, "the new hub has the connection", m.taken)
}

// holdByCommand begins a move that waits for the client's present command.
func holdByCommand(t *testing.T, c *cluster) *heldMove {
	t.Helper()
	m := &heldMove{from: c.hubs[0], to: c.hubs[1], third: c.hubs[2]}
	m.old = m.from.connectResumable(t, "ann", "lobby")
	if !m.old.Turn(m.old) {
		t.Fatal("the client's link has no turn")
	}
	m.release = sync.OnceFunc(m.old.EndTurn)
	m.begin(t)
	testkit.Eventually(t, "the connection is frozen", func() bool {
		return errors.Is(m.stateAtOld(t), transfer.ErrMoving)
	})
	return m
}

// holdInDoubt begins a move, and stops the new hub before it takes the last changes. The third hub
// is stopped first, so that the old hub waits for its marks. All this must be done before the old
// hub has waited for too long. If it is not, a further connection has its chance.
func holdInDoubt(t *testing.T, c *cluster) (m *heldMove) {
	t.Helper()
	to, third := newStopper(t, c.hubs[1]), newStopper(t, c.hubs[2])
	testkit.Eventually(t, "a connection is in doubt", func() bool {
		m = &heldMove{from: c.hubs[0], to: c.hubs[1], third: c.hubs[2]}
		m.old = m.from.connectResumable(t, "ann", "lobby")
		endTo, endThird := func() {}, third.stop(t)
		m.release = func() { endTo(); endThird() }
		m.begin(t)
		testkit.Eventually(t, "the new hub has a shadow", func() bool {
			return len(m.to.hub.Moves().Keys(m.id())) > 0
		})
		endTo = to.stop(t)
		_, err := m.to.hub.Connection(hub.DefaultNamespace, string(m.id()))
		isOpen := errors.Is(err, hub.ErrConnectionNotFound)
		testkit.Eventually(t, "the old hub has waited for long enough", func() bool {
			return !isOpen || !errors.Is(m.stateAtOld(t), transfer.ErrMoving)
		})
		if isOpen && errors.Is(m.stateAtOld(t), hub.ErrConnectionNotFound) {
			endThird()
			return true
		}
		m.finish(t)
		m.to.take(t, m.id()).Connection.Close(cause.Client.CloseStatus())
		return false
	})
	return m
}

// stopper stops a hub: a message for its client is encoded within the gate of moves, and for as
// long as the test likes.
type stopper struct {
	wireProtocol

	at          *fixture
	begun, over chan struct{}
}

func newStopper(t *testing.T, f *fixture) *stopper {
	t.Helper()
	s := &stopper{at: f, begun: make(chan struct{}), over: make(chan struct{})}
	f.connect(t, s, s.user())
	return s
}

func (s *stopper) user() string { return "stopper of " + string(s.at.hub.ID()) }

// Encode implements hub.Protocol.
func (s *stopper) Encode(m *hub.Message, r hub.Route) []byte {
	s.begun <- struct{}{}
	<-s.over
	return s.wireProtocol.Encode(m, r)
}

// stop stops the hub until end is called. From then on no call begins there, and the hub takes no
// step of a move.
func (s *stopper) stop(t *testing.T) (end func()) {
	t.Helper()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		s.at.send(t, waiting(to(users(s.user()), "stop"), controlv1.Wait_WAIT_NONE, 0))
	}()
	testkit.Receive(t, "the hub stands still", s.begun)
	end = sync.OnceFunc(func() {
		s.over <- struct{}{}
		<-sent
	})
	t.Cleanup(end)
	return end
}

// eachHold runs a test with each way in which a move is held open.
func eachHold(t *testing.T, test func(t *testing.T, c *cluster, m *heldMove)) {
	c := newCluster(t, 3)
	for _, way := range []struct {
		name string
		hold func(*testing.T, *cluster) *heldMove
	}{
		{"by a command of the client", holdByCommand},
		{"in doubt", holdInDoubt},
	} {
		t.Run(way.name, func(t *testing.T) {
			m := way.hold(t, c)
			test(t, c, m)
			m.to.hub.Moves().Close(m.id(), cause.Client.CloseStatus())
		})
	}
}

// payloadsOf returns the messages that a client of resumableProtocol has got, without their ids.
func payloadsOf(c *client) (all []string) {
	rest := c.received()
	for rest != "" {
		_, n := binary.Uvarint([]byte(rest))
		var payload string
		payload, rest, _ = strings.Cut(rest[n:], string(frameEnd))
		all = append(all, payload)
	}
	return all
}

// comeBack has ann's client come back to the new hub, and waits until it has each of its messages.
func (m *heldMove) comeBack(t *testing.T, want int) (got []string) {
	t.Helper()
	m.back = m.to.take(t, m.id())
	testkit.Eventually(t, "all messages", func() bool {
		got = payloadsOf(m.back)
		return len(got) >= want
	})
	return got
}

// acknowledge confirms all messages that ann's client has got.
func (m *heldMove) acknowledge(t *testing.T, messages int) {
	t.Helper()
	if err := m.back.Ack(uint64(messages)); err != nil {
		t.Error(err)
	}
}

// holdSent holds that messages have come once each. Those of each list have come in its order.
func holdSent(t *testing.T, got []string, inOrder [][]string, others []string) {
	t.Helper()
	want := slices.Concat(append(inOrder, others)...)
	have := slices.Clone(got)
	slices.Sort(want)
	slices.Sort(have)
	if diff := cmp.Diff(want, have); diff != "" {
		t.Error(diff)
	}
	for _, list := range inOrder {
		have := slices.DeleteFunc(slices.Clone(got), func(s string) bool {
			return !slices.Contains(list, s)
		})
		if diff := cmp.Diff(list, have); diff != "" {
			t.Error(diff)
		}
	}
}

// lateReceipt is the receipt of a send that has not returned yet.
type lateReceipt struct {
	name string
	came chan *controlv1.Receipt
}

// sendLater sends a message that waits for the end of the move.
func (f *fixture) sendLater(t *testing.T, wait controlv1.Wait, text string) lateReceipt {
	t.Helper()
	came := make(chan *controlv1.Receipt, 1)
	go func() {
		resp, err := f.delivery.Send(t.Context(), waiting(to(users("ann"), text), wait, longWait))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		came <- resp.GetReceipt()
	}()
	return lateReceipt{text, came}
}

// hold holds that the receipt comes. On a busy machine it may name a hub that is silent just now,
// and then it proves nothing.
func (l lateReceipt) hold(t *testing.T, want *controlv1.Receipt) {
	t.Helper()
	have, _ := testkit.Receive(t, l.name, l.came)
	if names := have.GetUnreachableHubs(); len(names) > 0 {
		t.Logf("%s: the receipt names %v", l.name, names)
		return
	}
	holdReceipt(t, want, have)
}

// holdOpen holds that the receipt has not come.
func (l lateReceipt) holdOpen(t *testing.T) {
	t.Helper()
	select {
	case r := <-l.came:
		t.Errorf("%s has returned: %v", l.name, r)
	default:
	}
}

// sendShortly sends messages that wait for less than the move takes, until a receipt has the part
// of the old hub: on a busy machine it may be late. It returns what it has sent.
func (m *heldMove) sendShortly(
	t *testing.T, through *fixture, wait controlv1.Wait, want *controlv1.Receipt,
) (sent []string) {
	t.Helper()
	testkit.Eventually(t, "a receipt of the old hub", func() bool {
		text := fmt.Sprint("short ", wait, " through ", through.hub.ID(), " ", len(sent))
		sent = append(sent, text)
		have := through.send(t, waiting(to(users("ann"), text), wait, shortWait))
		if slices.Contains(have.GetUnreachableHubs(), string(m.from.hub.ID())) {
			return false
		}
		holdReceipt(t, want, have)
		return true
	})
	return sent
}

var strongWaits = []controlv1.Wait{
	controlv1.Wait_WAIT_QUEUED, controlv1.Wait_WAIT_WRITTEN, controlv1.Wait_WAIT_ACKED,
}

// While a connection is in doubt, only the new hub can tell of it, so a short send names that hub.
// A long send waits for it, and for the client there.
func TestASendWaitsForAConnectionInDoubt(t *testing.T) {
	m := holdInDoubt(t, newCluster(t, 3))
	unknown := &controlv1.Receipt{UnreachableHubs: []string{string(m.to.hub.ID())}}
	var inOrder [][]string
	for _, f := range []*fixture{m.from, m.third} {
		var sent []string
		for _, wait := range strongWaits {
			sent = append(sent, m.sendShortly(t, f, wait, unknown)...)
		}
		inOrder = append(inOrder, sent)
	}
	// WAIT_NONE counts the connections of the called hub alone.
	none := func(text string) *controlv1.SendRequest {
		return waiting(to(users("ann"), text), controlv1.Wait_WAIT_NONE, 0)
	}
	holdReceipt(
		t, &controlv1.Receipt{Matched: 1, Pending: 1}, m.from.send(t, none("none at the old hub")),
	)
	m.third.send(t, none("none at the third hub"))
	others := []string{"none at the old hub", "none at the third hub"}

	late := map[controlv1.Wait][]lateReceipt{}
	for _, f := range []*fixture{m.from, m.to, m.third} {
		for _, wait := range strongWaits {
			text := fmt.Sprint("long ", wait, " through ", f.hub.ID())
			others = append(others, text)
			late[wait] = append(late[wait], f.sendLater(t, wait, text))
		}
	}
	for i, f := range []*fixture{m.from, m.third} {
		inOrder[i] = append(
			inOrder[i], m.sendShortly(t, f, controlv1.Wait_WAIT_QUEUED, unknown)...,
		)
	}
	for _, receipts := range late {
		for _, l := range receipts {
			l.holdOpen(t)
		}
	}

	m.finish(t)
	for _, l := range late[controlv1.Wait_WAIT_QUEUED] {
		l.hold(t, &controlv1.Receipt{Matched: 1, QueuedDetached: 1})
	}
	want := len(others) + len(inOrder[0]) + len(inOrder[1])
	got := m.comeBack(t, want)
	for _, l := range late[controlv1.Wait_WAIT_WRITTEN] {
		l.hold(t, &controlv1.Receipt{Matched: 1, Written: 1})
	}
	m.acknowledge(t, want)
	for _, l := range late[controlv1.Wait_WAIT_ACKED] {
		l.hold(t, &controlv1.Receipt{Matched: 1, Acked: 1})
	}
	holdSent(t, got, inOrder, others)
}

// While a client's command holds a move open, messages are queued at the old hub, and move with the
// connection.
func TestASendIsQueuedWhileACommandHoldsAMoveOpen(t *testing.T) {
	m := holdByCommand(t, newCluster(t, 3))
	queued := &controlv1.Receipt{Matched: 1, Queued: 1}
	var inOrder [][]string
	var others []string
	var late []lateReceipt
	for _, f := range []*fixture{m.from, m.to, m.third} {
		var sent []string
		for _, wait := range strongWaits {
			sent = append(sent, m.sendShortly(t, f, wait, queued)...)
			text := fmt.Sprint("long ", wait, " through ", f.hub.ID())
			others = append(others, text)
			l := f.sendLater(t, wait, text)
			if wait == controlv1.Wait_WAIT_QUEUED {
				l.hold(t, queued)
			} else {
				late = append(late, l)
			}
		}
		inOrder = append(inOrder, sent)
	}
	holdReceipt(t, queued, m.from.send(
		t, waiting(to(users("ann"), "none"), controlv1.Wait_WAIT_NONE, 0),
	))
	others = append(others, "none")
	testkit.Eventually(t, "all messages are in the outbox", func() bool {
		info, err := m.from.hub.Connection(hub.DefaultNamespace, string(m.id()))
		return err == nil && info.QueuedMessages == len(others)+len(slices.Concat(inOrder...))
	})
	for _, l := range late {
		l.holdOpen(t)
	}

	m.finish(t)
	for _, l := range late {
		l.hold(t, &controlv1.Receipt{Matched: 1, InTransfer: 1})
	}
	got := m.comeBack(t, len(others)+len(slices.Concat(inOrder...)))
	holdSent(t, got, inOrder, others)
}

// While the marks of a hub are missing, the new hub holds the calls of all others, and their
// receipts count the connection as in transfer. The old hub waits for the marks only for half a
// second, so a busy machine may need several moves for a send within that time.
func TestASendCountsAConnectionThatWaitsForMarks(t *testing.T) {
	c := newCluster(t, 4)
	slow := newStopper(t, c.hubs[3])
	one := c.hubs[0].connectResumable(t, "ann", "lobby")
	var all, sent []string
	isSeen := map[controlv1.Wait]bool{}
	testkit.Eventually(t, "sends behind a mark, within the time for marks", func() bool {
		turn := len(sent)
		m := &heldMove{from: c.hubs[turn%2], to: c.hubs[(turn+1)%2], third: c.hubs[2], old: one}
		m.release = slow.stop(t)
		m.begin(t)
		testkit.Eventually(t, "the new hub has a shadow", func() bool {
			return len(m.to.hub.Moves().Keys(m.id())) > 0
		})
		wait := strongWaits[turn%3]
		text := fmt.Sprint(wait, " in turn ", turn)
		sent = append(sent, text)
		r := m.third.send(t, waiting(to(users("ann"), text), wait, shortWait/2))
		if len(r.GetUnreachableHubs()) == 0 && r.GetMatched() != 1 {
			t.Errorf("%s: %v", text, r)
		}
		isSeen[wait] = isSeen[wait] || r.GetInTransfer() == 1
		m.finish(t)
		all = m.comeBack(t, len(sent))
		one = m.back
		return isSeen[strongWaits[0]] && isSeen[strongWaits[1]] && isSeen[strongWaits[2]]
	})
	holdSent(t, all, [][]string{sent}, nil)
}

// A stream has a result for each send, also for those that end before the move. All messages come
// in the order of the stream.
func TestAStreamKeepsItsOrderWhileAConnectionMoves(t *testing.T) {
	eachHold(t, func(t *testing.T, _ *cluster, m *heldMove) {
		stream := m.third.stream(t.Context(), t)
		var sent []string
		for i := range int64(12) {
			wait, timeout := strongWaits[i%3], shortWait
			if i%2 == 1 {
				timeout = longWait
			}
			sent = append(sent, fmt.Sprint(i, " ", wait, " ", timeout))
			stream.send(t, batch(i+1, waiting(to(users("ann"), sent[i]), wait, timeout)))
		}
		stream.closeSend(t)
		stream.until(t, func() bool {
			return stream.results[1] != nil && stream.results[3] != nil && stream.results[5] != nil
		})
		m.finish(t)
		got := m.comeBack(t, len(sent))
		holdSent(t, got, [][]string{sent}, nil)
		m.acknowledge(t, len(sent))
		if err := stream.end(t); err != nil {
			t.Error(err)
		}
		for i := range sent {
			r := stream.receipt(t, int64(i)+1)
			if r.GetMatched() != 1 && len(r.GetUnreachableHubs()) == 0 {
				t.Errorf("%s: %v", sent[i], r)
			}
		}
	})
}
