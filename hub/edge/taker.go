package edge

import (
	"errors"
	"slices"
	"strings"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/admit"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/take"
)

// Taker fetches connections from other hubs, for clients that come back to this hub.
type Taker = take.Taker

// takeShare is the divisor of MaxStrangers and MaxLinks that gives the bound of takes under way.
// Until its take ends, a client has proven nothing.
const takeShare = 4

// newTakes returns the takes of a server, none of which is under way.
func (c *Config) newTakes() (*take.Takes, error) {
	return take.New(take.Config{
		Taker: c.Taker, Most: int64(max(1, min(c.MaxStrangers, c.MaxLinks)/takeShare)),
		Logger: c.Logger, Metrics: c.Metrics,
	})
}

// takeConnection has a different hub's connection brought here. It returns false if the client is
// refused, or was declined, or has gone: in the last two cases the refusal is nil. The client has
// proven nothing yet, so it is in line with new clients. It is not held again after the take.
func (h *handshake) takeConnection(id hub.ConnectionID, token string) (bool, *requestRefusal) {
	if admitted, refused := h.awaitAdmission(admit.Connect); !admitted {
		return false, refused
	}
	s := h.server
	err := s.takes.Await(h.r.Context(), h.keepWatching, h.namespace, id, token)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, hub.ErrResumeRefused):
		return false, h.declineResume()
	case errors.Is(err, take.ErrLimit):
		return false, newRefusal(reasonTakeLimit)
	case errors.Is(err, take.ErrClosed):
		return false, newRefusal(reasonShuttingDown)
	case errors.Is(err, take.ErrLeft):
		s.metrics.failed.Inc()
		return false, nil
	default:
		return false, newRefusal(reasonElsewhere)
	}
}

// ProtocolNamed returns the protocol for a connection from a different hub, as Moves.Adopt needs
// it. name is that of hub.Snapshot, which tells also how the connection's links are framed.
// ProtocolNamed returns false if this server has no such protocol. Config.Compression does not
// matter: it is for new connections.
func (s *Server) ProtocolNamed(name string) (hub.Protocol, bool) {
	name, compressed := strings.CutSuffix(name, framing.DeflateVariant)
	i := slices.IndexFunc(s.protocols, func(p *countedProtocol) bool { return p.Name() == name })
	switch {
	case i < 0:
		return nil, false
	case compressed:
		return s.protocols[i].deflated, true
	default:
		return s.protocols[i].framed, true
	}
}
