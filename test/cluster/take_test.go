package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

// TestTake: clients come back at further hubs, and have their connections there.
func TestTake(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3})
	t.Run("a client that comes to any hub misses nothing", func(t *testing.T) {
		c.comeAnywhere(t, bed.Either(30, 200), func(*returning) {})
	})
	t.Run("a wrong token takes nothing", func(t *testing.T) {
		c.comeAnywhere(t, bed.Either(10, 50), func(r *returning) {
			c.knock(t, r)
		})
	})
}

// knock comes to all hubs with a wrong token for a client's connection, and waits for no answer.
// The client comes to one of them, too.
func (c *cluster) knock(t *testing.T, r *returning) {
	t.Helper()
	path := r.path + "&" + bed.ResumeQuery(r.id, "a wrong token")
	for _, other := range c.nodes {
		conn, err := net.Dial("tcp", other.Clients)
		bed.Report(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		_, err = io.WriteString(conn, bed.UpgradeRequest(other.Clients, path, bed.Reliable))
		bed.Report(t, err)
	}
}

// comeAnywhere drops a client's link again and again, while all hubs send to it by its group, its
// user and its id. It comes back at a different hub each time. There it waits until its connection
// has rested, and meanwhile more is sent than it reads at a moment, so it catches up each time.
//
// before is called each time before the client comes.
func (c *cluster) comeAnywhere(t *testing.T, drops int, before func(*returning)) {
	t.Helper()
	name := t.Name()
	m := &tally.Member{Namespace: "default", User: name, Groups: []string{name}}
	path, err := c.nodes[0].invite(t.Context(), m)
	bed.Report(t, err)
	back := &returning{cluster: c, name: name, path: path, last: map[string]int{}}
	back.come(t, c.nodes[0])
	ctx, stop := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	t.Cleanup(func() { stop(); callers.Wait() })
	sent := make([]atomic.Int64, len(c.nodes))
	for i, n := range c.nodes {
		callers.Go(func() { back.send(ctx, t, n.backend, i, &sent[i]) })
	}
	for i := range drops {
		back.readSome(t, 20)
		back.catchUp(t, sent)
		bed.Report(t, back.link.Conn.Close())
		before(back)
		back.come(t, c.nodes[(i+1)%len(c.nodes)])
	}
	stop()
	callers.Wait()
	back.catchUp(t, sent)
}

// returning is a reliable client that comes back.
type returning struct {
	cluster *cluster
	name    string // of its user and its group
	path    string
	link    *bed.Client

	id, token string
	sequence  int64
	last      map[string]int // the latest message of each caller
}

// send sends numbered messages until ctx is done. It counts them in sent.
func (r *returning) send(
	ctx context.Context, t *testing.T, backend grpc.ClientConnInterface, caller int,
	sent *atomic.Int64,
) {
	targets := []*controlv1.Target{
		{Groups: []string{r.name}}, {Users: []string{r.name}}, {Connections: []string{r.id}},
	}
	delivery := controlv1.NewDeliveryServiceClient(backend)
	for count := 0; ctx.Err() == nil; count++ {
		text := fmt.Sprintf("%d:%d", caller, count+1)
		response, err := delivery.Send(t.Context(), &controlv1.SendRequest{
			Target:  targets[count%len(targets)],
			Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: text}},
		})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			return
		}
		sent.Add(1)
		receipt := response.GetReceipt()
		if receipt.GetMatched() != 1 || len(receipt.GetUnreachableHubs()) > 0 {
			t.Errorf("%s: receipt %v", text, receipt)
		}
	}
}

// come connects at a hub. The first time it begins, later it resumes.
func (r *returning) come(t *testing.T, n *node) {
	t.Helper()
	path := r.path
	if r.id != "" {
		path += "&" + bed.ResumeQuery(r.id, r.token)
	}
	// A hub that can't have the connection now says 503, and the client asks again.
	testkit.Eventually(t, "the hub gives the client its connection", func() bool {
		conn, err := net.Dial("tcp", n.Clients)
		bed.Report(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		r.link, err = bed.NewClient(conn, n.Clients, path, bed.Reliable)
		return err == nil && r.readGreeting(t)
	})
}

// readGreeting reads the first message of a link. It reports false if the connection has moved on.
func (r *returning) readGreeting(t *testing.T) bool {
	t.Helper()
	opcode, payload, err := r.link.ReadFrame(nil)
	if err != nil {
		return false
	}
	if opcode == bed.OpClose {
		if how := bed.ParseClose(payload); how.Code == 1008 {
			t.Fatalf("the client has lost its connection: %v", how)
		}
		return false
	}
	r.take(t, payload)
	return true
}

func (r *returning) readSome(t *testing.T, count int) {
	t.Helper()
	for range count {
		r.readOne(t)
	}
	r.acknowledge(t)
}

func (r *returning) acknowledge(t *testing.T) {
	t.Helper()
	ack := fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, r.sequence)
	_, err := r.link.Conn.Write(bed.MaskedFrame(bed.OpText, []byte(ack)))
	bed.Report(t, err)
}

// catchUp reads what each caller has sent by now, and confirms it.
func (r *returning) catchUp(t *testing.T, sent []atomic.Int64) {
	t.Helper()
	for i := range sent {
		for n := int(sent[i].Load()); r.last[strconv.Itoa(i)] < n; {
			r.readOne(t)
		}
	}
	r.acknowledge(t)
}

// readOne checks a message of the hub.
func (r *returning) readOne(t *testing.T) {
	t.Helper()
	opcode, payload, err := r.link.ReadFrame(nil)
	switch {
	case err == nil && opcode == bed.OpText:
		r.take(t, payload)
	case err != nil || opcode == bed.OpClose:
		t.Fatalf("after message %d: %v, %q", r.sequence, err, payload)
	}
}

// take checks a message.
func (r *returning) take(t *testing.T, payload []byte) {
	t.Helper()
	var m struct {
		Event, ConnectionID, ReconnectionToken, Data string
		SequenceID                                   int64
	}
	if err := json.Unmarshal(payload, &m); err != nil {
		t.Fatal(err)
	}
	if m.Event == "connected" {
		if r.id != "" && m.ConnectionID != r.id {
			t.Fatalf("connection %s became %s", r.id, m.ConnectionID)
		}
		r.id, r.token = m.ConnectionID, m.ReconnectionToken
		return
	}
	if m.SequenceID <= r.sequence { // sent again, because the ack did not come
		return
	}
	if m.SequenceID != r.sequence+1 {
		t.Fatalf("message %d follows %d", m.SequenceID, r.sequence)
	}
	r.sequence = m.SequenceID
	caller, text, _ := strings.Cut(m.Data, ":")
	number, err := strconv.Atoi(text)
	if err != nil || number != r.last[caller]+1 {
		t.Fatalf("message %q of a caller whose last was %d", m.Data, r.last[caller])
	}
	r.last[caller] = number
}
