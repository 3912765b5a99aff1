//go:build bench && linux

package engine

import (
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/protocol"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

// reliable is the protocol of Web PubSub's reliable clients. Messages to each client have numbers
// of their own. It counts the messages of clients.
type reliable struct {
	webpubsub.ReliableJSON

	heard *atomic.Int64
}

var (
	_ edge.Protocol     = reliable{}
	_ protocol.Numbered = reliable{}
)

// Receive counts a confirmation.
func (r reliable) Receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error {
	defer r.heard.Add(1)
	return r.ReliableJSON.Receive(c, kind, payload)
}

// WithMaxPayload keeps the counter around the protocol that it returns.
func (r reliable) WithMaxPayload(most int64) edge.Protocol {
	r.ReliableJSON = r.ReliableJSON.WithMaxPayload(most).(webpubsub.ReliableJSON)
	return r
}

// frames returns messages to the group of all clients as a client gets them, numbered from first.
func (r reliable) frames(first, count int) (all []byte) {
	m := &hub.Message{Kind: hub.Text, Payload: text}
	joined := framing.WebSocket(r).(hub.Numbered)
	shared := joined.Encode(m, hub.Route{Kind: hub.RouteGroup, Group: shared})
	for i := range count {
		all = append(joined.AppendPrefix(all, uint64(first+i), shared), shared...)
	}
	return all
}

// greeting returns the size of a client's greeting, in bytes.
func (r reliable) greeting() int {
	info := hub.Info{Identity: hub.Identity{
		User: fmt.Sprintf("user-%011d", 0),
		ID:   hub.ConnectionID(hub.NewID()) + hub.ConnectionID("."+strings.Repeat("a", 26)),
	}}
	return len(framing.WebSocket(r).AppendGreeting(nil, info, strings.Repeat("a", 26)))
}

// measureReliable measures fan-out and burst to clients that confirm. It does not measure the
// confirmations.
func measureReliable() ([]row, error) {
	p := reliable{heard: new(atomic.Int64)}
	config := reference()
	config.plain, config.frame = p, p.greeting()+len(p.frames(1, 1))
	b, err := newBed(config)
	if err != nil {
		return nil, err
	}
	if err := b.open(opening{Path: clientPath(), Count: audience}); err != nil {
		return nil, err
	}
	last := 1 // number of the newest message: the message of open
	confirm := func() error {
		p.heard.Store(0)
		if _, err := b.order(
			order{Speak: fmt.Sprintf(`{"type":"sequenceAck","sequenceId":%d}`, last)},
		); err != nil {
			return err
		}
		return eventually("confirmations", func() bool { return p.heard.Load() == audience })
	}
	single := variant{after: confirm, measured: func() error {
		if r, err := b.deliver(shared, text); err != nil || r.Matched != audience {
			return fmt.Errorf("receipt %+v: %w", r, err)
		}
		last++
		return b.drain(audience, len(p.frames(last, 1)))
	}}
	raw := func(count int) variant { // of the latest messages
		return variant{measured: func() error {
			return b.raw(audience, p.frames(max(1, last-count+1), count)).measured()
		}}
	}
	took, err := rounds(cpuTime, pairs, single, raw(1))
	if err != nil {
		return nil, err
	}
	rows := []row{ratio("one at a time", audience, took, 1.3)}

	several := variant{after: confirm, measured: func() error {
		last += burst
		return b.calling(call{
			Address: b.backends, Count: burst, Batch: burst, InFlight: burst,
			Text: string(text), Matched: audience, Groups: []string{shared},
		}, audience, len(p.frames(last-burst+1, burst))).measured()
	}}
	if took, err = rounds(cpuTime, pairs, several, raw(burst)); err != nil {
		return nil, err
	}
	rows = append(rows, ratio("a batch of 8 to one group, SendStream", audience*burst, took, 0))
	return rows, b.end()
}
