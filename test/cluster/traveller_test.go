package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/connhub/connhub/test/bed"
)

const (
	// comeBackAfter is the pause of a client that no hub has taken.
	comeBackAfter = 20 * time.Millisecond
	// ackEvery is how many messages a client confirms at once.
	ackEvery = 10
	// publishEvery is how many messages come between two that the client publishes.
	publishEvery = 40
)

// traveller is a reliable client. When its link ends, it comes back at a random hub.
//
// Now and then it publishes a message to a group with a single member, the next traveller. It has
// at most one without an ack. It sends that one again, with the same ack id, on its next link.
type traveller struct {
	journey *journey
	number  int
	user    string
	path    string
	random  *rand.Rand
	begun   chan struct{} // closed when it has a connection, or never gets one
	id      string        // of the connection, from begun on

	// Of its goroutine.
	token    string
	sequence int64
	left     time.Time       // when its link ended; zero: it has one
	gaps     []time.Duration // times without a link
	oldest   time.Duration   // the longest way of a message from its sender
	again    int             // messages that were published again

	mu        sync.Mutex
	got       map[string][]int // numbers of the messages of each sender
	total     int
	published int  // messages, also the one without an ack
	isUnsure  bool // the latest has no ack
	lost      bool // it has given up
}

// groupOf is the group that a traveller publishes to.
func groupOf(number int) string { return fmt.Sprint("of-", number) }

// name is the traveller's name as the sender of messages.
func (v *traveller) name() string { return fmt.Sprint("p", v.number) }

func (v *traveller) count() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.total
}

// countPublished returns the number of messages that the traveller has published. isDone says that
// all of them have their acks.
func (v *traveller) countPublished() (count int, isDone bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.published, !v.isUnsure
}

func (v *traveller) failed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lost
}

// travel connects again and again until ctx is done, or the connection is lost.
func (v *traveller) travel(ctx context.Context, t *testing.T) {
	begin := sync.OnceFunc(func() { close(v.begun) })
	defer begin()
	for ctx.Err() == nil {
		err := v.useLink(ctx, begin)
		var closed bed.ClosedError
		refused := errors.As(err, &closed) && closed.Code == 1008
		if refused || errors.Is(err, errWrong) {
			t.Errorf("%s, message %d of connection %s: %v", v.user, v.sequence, v.id, err)
			v.mu.Lock()
			v.lost = true
			v.mu.Unlock()
			return
		}
		if v.left.IsZero() {
			v.left = time.Now()
		}
		select {
		case <-time.After(comeBackAfter):
		case <-ctx.Done():
		}
	}
}

// errWrong: a message is not the one that must come.
var errWrong = errors.New("wrong message")

// useLink connects to a random hub, and reads until the link ends.
func (v *traveller) useLink(ctx context.Context, begin func()) error {
	v.journey.mu.Lock()
	address := v.journey.doors[v.random.IntN(len(v.journey.doors))]
	v.journey.mu.Unlock()
	path := v.path
	if v.id != "" {
		path += "&" + bed.ResumeQuery(v.id, v.token)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	if v.id != "" {
		v.journey.noteVisit(address)
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() {
		_, _ = conn.Write(bed.MaskedFrame(bed.OpClose, []byte{0x03, 0xe8})) // 1000: for good
		_ = conn.Close()
	})()
	link, err := bed.NewClient(conn, address, path, bed.Reliable)
	if err != nil {
		return err
	}
	var buffer []byte
	for {
		opcode, payload, err := link.ReadFrame(buffer)
		buffer = payload
		switch {
		case err != nil:
			return err
		case opcode == bed.OpClose:
			return bed.ParseClose(payload)
		case opcode == bed.OpText:
			if err := v.take(conn, payload, begin); err != nil {
				return err
			}
		}
	}
}

// arrived is a message of a link.
type arrived struct {
	Type, Event, ConnectionID, ReconnectionToken, Data string
	SequenceID                                         int64
	AckID                                              int
	Success                                            bool
	Error                                              struct{ Name string }
}

// take takes a message of a link.
func (v *traveller) take(conn net.Conn, payload []byte, begin func()) error {
	var m arrived
	if err := json.Unmarshal(payload, &m); err != nil {
		return fmt.Errorf("%w: %q: %w", errWrong, payload, err)
	}
	switch {
	case m.Event == "connected":
		return v.greet(conn, &m, begin)
	case m.Type == "ack":
		return v.takeAck(&m, payload)
	case m.SequenceID <= v.sequence: // sent again, because the ack did not come
		return nil
	case m.SequenceID != v.sequence+1:
		return fmt.Errorf("%w: %s", errWrong, payload)
	}
	v.sequence = m.SequenceID
	name, rest, _ := strings.Cut(m.Data, ":")
	number, microseconds := 0, 0
	if _, err := fmt.Sscanf(rest, "%d:%d", &number, &microseconds); err != nil {
		return fmt.Errorf("%w: %s", errWrong, payload)
	}
	at := v.journey.began.Add(time.Duration(microseconds) * time.Microsecond)
	v.oldest = max(v.oldest, time.Since(at))
	v.mu.Lock()
	v.got[name] = append(v.got[name], number)
	v.total++
	v.mu.Unlock()
	if v.sequence%ackEvery == 0 {
		ack := fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, v.sequence)
		if _, err := conn.Write(bed.MaskedFrame(bed.OpText, []byte(ack))); err != nil {
			return err
		}
	}
	if v.sequence%publishEvery == 0 {
		return v.publishNext(conn)
	}
	return nil
}

// greet notes that the traveller has a link.
func (v *traveller) greet(conn net.Conn, m *arrived, begin func()) error {
	v.token = m.ReconnectionToken
	if v.id == "" {
		v.id = m.ConnectionID
		begin()
		return nil
	}
	if m.ConnectionID != v.id {
		return fmt.Errorf("%w: it became connection %s", errWrong, m.ConnectionID)
	}
	v.gaps, v.left = append(v.gaps, time.Since(v.left)), time.Time{}
	if published, isDone := v.countPublished(); !isDone {
		v.again++
		return v.publish(conn, published)
	}
	return nil
}

// publishNext publishes the next message, if the one before has its ack.
func (v *traveller) publishNext(conn net.Conn) error {
	v.mu.Lock()
	isUnsure := v.isUnsure
	if !isUnsure {
		v.isUnsure, v.published = true, v.published+1
	}
	published := v.published
	v.mu.Unlock()
	if isUnsure {
		return nil
	}
	return v.publish(conn, published)
}

// publish sends a message with its number as ack id. The numbers of ack ids begin with 1.
func (v *traveller) publish(conn net.Conn, ackID int) error {
	text := fmt.Sprintf(
		`{"type":"sendToGroup","group":%q,"ackId":%d,"dataType":"text","data":%q}`,
		groupOf(v.number), ackID, v.journey.stamp(v.name(), ackID-1),
	)
	_, err := conn.Write(bed.MaskedFrame(bed.OpText, []byte(text)))
	return err
}

func (v *traveller) takeAck(m *arrived, payload []byte) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !m.Success && m.Error.Name != "Duplicate" || m.AckID != v.published {
		return fmt.Errorf("%w: %s", errWrong, payload)
	}
	v.isUnsure = false
	return nil
}
