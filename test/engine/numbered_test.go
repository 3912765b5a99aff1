//go:build bench && linux

package engine

import (
	"bytes"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/plain"
)

// numbered is a protocol that numbers what a connection gets, as the reliable subprotocols do: the number is in the message,
// so each client's bytes are its own. A client confirms with the number as a text.
type numbered struct {
	plain.Protocol

	acks *atomic.Int64
}

var (
	_ edge.Protocol = numbered{}
	_ hub.Numbered  = numbered{}
)

// firstNumber makes all numbers equally long, so that all frames are.
const firstNumber = 1_000_000_000

// Encode returns what follows the number.
func (numbered) Encode(m *hub.Message, _ hub.Route) []byte {
	return append(append([]byte(`,"data":"`), m.Payload...), `"}`...)
}

// AppendPrefix appends the frame's header and the number.
func (numbered) AppendPrefix(dst []byte, sequence uint64, shared []byte) []byte {
	const before, digits = `{"sequence":`, 10
	dst = frame.AppendHeader(dst, frame.Text, true, len(before)+digits+len(shared))
	return strconv.AppendUint(append(dst, before...), firstNumber+sequence, 10)
}

// AppendGreeting appends nothing.
func (numbered) AppendGreeting(dst []byte, _ hub.Info, _ string) []byte { return dst }

// Receive takes a confirmation.
func (n numbered) Receive(c *hub.Connection, _ hub.PayloadKind, payload []byte) error {
	sequence, err := strconv.ParseUint(string(payload), 10, 64)
	if err != nil {
		return err
	}
	defer n.acks.Add(1)
	return c.Ack(sequence)
}

// measureNumbered: like fan-out and burst, with a number in each message. Confirmations are not measured.
func measureNumbered() ([]row, error) {
	p := numbered{acks: new(atomic.Int64)}
	shared1 := p.Encode(&hub.Message{Payload: text}, hub.Route{})
	one := append(p.AppendPrefix(nil, 1, shared1), shared1...)
	config := reference()
	config.plain, config.frame = p, len(one)
	b, err := newBed(config)
	if err != nil {
		return nil, err
	}
	if err := b.open(opening{Path: clientPath(), Count: audience}); err != nil {
		return nil, err
	}
	sequence := 1 // that of the message of open
	confirm := func(messages int) func() error {
		return func() error {
			sequence += messages
			p.acks.Store(0)
			if _, err := b.order(order{Speak: strconv.Itoa(sequence)}); err != nil {
				return err
			}
			return eventually("confirmations", func() bool { return p.acks.Load() == audience })
		}
	}
	single := variant{after: confirm(1), measured: func() error {
		if r, err := b.deliver(shared, text); err != nil || r.Matched != audience {
			return fmt.Errorf("receipt %+v: %w", r, err)
		}
		return b.drain(audience, len(one))
	}}
	took, err := rounds(cpuTime, pairs, single, b.raw(audience, one))
	if err != nil {
		return nil, err
	}
	rows := []row{ratio("one at a time", audience, took, 1.3)}

	eight := bytes.Repeat(one, burst)
	several := b.calling(call{
		Address: b.backends, Count: burst, Batch: burst, InFlight: burst,
		Text: string(text), Matched: audience, Groups: []string{shared},
	}, audience, len(eight))
	several.after = confirm(burst)
	if took, err = rounds(cpuTime, pairs, several, b.raw(audience, eight)); err != nil {
		return nil, err
	}
	rows = append(rows, ratio("a batch of 8 to one group, SendStream", audience*burst, took, 0))
	return rows, b.end()
}
