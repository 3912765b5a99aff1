//go:build bench && linux

package engine

import (
	"bytes"
	"compress/flate"
	"fmt"
	"strings"

	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
)

// offer is an additional header of a client's request.
const offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"

// measureCompression measures 1 KiB of JSON to all clients, compressed. Raw is a write of the same
// compressed frame, which is made once for all clients.
func measureCompression() ([]row, error) {
	config := reference()
	config.edge = func(c *edge.Config) { c.Compression = true }
	b, err := newBed(config)
	if err != nil {
		return nil, err
	}
	if err := b.open(opening{Path: clientPath(), Count: audience, Header: offer}); err != nil {
		return nil, err
	}
	var list strings.Builder
	for i := 0; list.Len() < 1<<10; i++ {
		fmt.Fprintf(&list, `{"id":%d,"symbol":"ACME","bid":101.%d,"ask":102.%d},`,
			i*7919, i*31%100, i*17%100)
	}
	payload := []byte(list.String()[:1<<10])
	small, err := compressed(payload)
	if err != nil {
		return nil, err
	}
	ours := variant{measured: func() error {
		if r, err := b.deliver(shared, payload); err != nil || r.Matched != audience {
			return fmt.Errorf("receipt %+v: %w", r, err)
		}
		return b.drain(audience, len(small))
	}}
	took, err := rounds(cpuTime, fanoutPairs, ours, b.raw(audience, small))
	if err != nil {
		return nil, err
	}
	left := row{Name: "  of its bytes are left", Value: float64(len(small)) / float64(len(payload))}
	return append(fanoutRows("one at a time", took, fanoutTarget, ownTarget), left), b.end()
}

// compressed returns the frame with a text that clients get.
func compressed(payload []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(payload); err != nil {
		return nil, err
	}
	if err := w.Flush(); err != nil {
		return nil, err
	}
	body := bytes.TrimSuffix(b.Bytes(), []byte("\x00\x00\xff\xff"))
	return append(frame.AppendCompressedHeader(nil, frame.Text, len(body)), body...), nil
}
