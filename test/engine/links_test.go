//go:build bench && linux

package engine

import (
	"bytes"

	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
)

// recordBytes is the overhead of a TLS 1.3 record (RFC 8446 §5.2), in bytes: header, type and tag
// of AES-GCM.
const recordBytes = 5 + 1 + 16

// measureLinksGoroutine measures a fan-out to clients with a goroutine each.
func measureLinksGoroutine() ([]row, error) {
	config := reference()
	config.edge = func(c *edge.Config) { c.GoroutinePerLink = true }
	b, err := newBed(config)
	if err != nil {
		return nil, err
	}
	if err := b.open(opening{Path: clientPath(), Count: audience}); err != nil {
		return nil, err
	}
	return b.fanoutBeside(textFrame, fanoutTarget, ownTarget)
}

// measureLinksTLS measures a fan-out to clients under TLS. Raw is a write of as many bytes to as
// many other sockets, because these sockets take only encrypted bytes.
func measureLinksTLS() ([]row, error) {
	config := reference()
	config.tls, config.keep = true, false
	b, err := newBed(config)
	if err != nil {
		return nil, err
	}
	others, err := b.keepOthers()
	if err != nil {
		return nil, err
	}
	if err := b.open(opening{Path: clientPath(), Count: audience, TLS: true}); err != nil {
		return nil, err
	}
	if _, err := b.order(
		order{Open: &opening{Address: others, Path: clientPath(), Count: audience}},
	); err != nil {
		return nil, err
	}
	return b.fanoutBeside(
		frame.Append(nil, frame.Text, bytes.Repeat([]byte("x"), textBytes+recordBytes)), 0, 0,
	)
}

// keepOthers serves WebSockets without a hub, for the reference to write to, and returns their
// address.
func (b *bed) keepOthers() (string, error) {
	l, err := listen()
	if err != nil {
		return "", err
	}
	b.sockets = &keeper{Listener: l}
	serveAccept(b.sockets)
	return l.Addr().String(), nil
}

// fanoutBeside measures a fan-out beside raw writes of these bytes, and ends the bed.
func (b *bed) fanoutBeside(raw []byte, whole, own float64) ([]row, error) {
	ours := variant{measured: func() error {
		if err := b.toAll(); err != nil {
			return err
		}
		return b.drain(audience, len(textFrame))
	}}
	took, err := rounds(cpuTime, fanoutPairs, ours, b.raw(audience, raw))
	if err != nil {
		return nil, err
	}
	return fanoutRows("one at a time", took, whole, own), b.end()
}
