package edge

import (
	"errors"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/framing"
)

// countedProtocol is a protocol with its counters.
type countedProtocol struct {
	Protocol

	framed   framing.Framed // with the frames of a WebSocket
	deflated framing.Framed // the same, for clients that agreed to compression
	most     int64          // bytes of a message of a client, in its encoded form

	text     messageCounters
	binary   messageCounters
	rejected rejectCounters
}

// countProtocol returns p with its counters. Its clients send payloads of at most maxPayload bytes.
func (m *metrics) countProtocol(p Protocol, maxPayload int64) *countedProtocol {
	most := maxPayload
	if w, ok := p.(Wrapper); ok {
		p = w.WithMaxPayload(maxPayload)
		most = p.(Wrapper).MaxWire()
	}
	of := func(kind string) messageCounters {
		return messageCounters{
			m.messages.WithLabelValues(p.Name(), kind),
			m.bytes.WithLabelValues(p.Name(), kind),
		}
	}
	return &countedProtocol{
		Protocol: p, most: most,
		framed: framing.WebSocket(p), deflated: framing.Deflate(p, m.countDeflated),
		text: of("text"), binary: of("binary"), rejected: newRejectCounters(m.rejected, p.Name()),
	}
}

// receiveMessage counts a message and hands it to the protocol. It counts a Rejection too, and
// returns nil for it: the link goes on.
func (s *countedProtocol) receiveMessage(c *hub.Connection, kind hub.PayloadKind, b []byte) error {
	if kind == hub.Text {
		s.text.countMessage(b)
	} else {
		s.binary.countMessage(b)
	}
	err := s.Receive(c, kind, b)
	if rejection, ok := errors.AsType[*Rejection](err); ok {
		s.rejected.countRejection(rejection)
		return nil
	}
	return err
}
