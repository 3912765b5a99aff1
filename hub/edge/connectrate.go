package edge

import (
	"errors"
	"net/http"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/admit"
)

// queueShare is the divisor of MaxStrangers that gives the bound of held handshakes. The rest of
// the strangers' places is for clients whose request has not been read: a client that resumes is
// known by its request.
const queueShare = 2

// newQueue returns the queue of handshakes above the connect rate.
func (c *Config) newQueue() (*admit.Queue, error) {
	return admit.New(admit.Config{
		Rate: c.ConnectRate, Most: max(1, c.MaxStrangers/queueShare), Logger: c.Logger,
		Metrics: c.Metrics,
	})
}

// awaitAdmission holds the handshake until the connect rate allows the client to connect. If it
// returns false, the client is refused, or has gone: then the refusal is nil.
func (h *handshake) awaitAdmission(class admit.Class) (bool, *requestRefusal) {
	s := h.server
	err := s.queue.Admit(h.r.Context(), class, h.keepWatching)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, admit.ErrQueueFull):
		return false, newRefusal(reasonConnectRate)
	case errors.Is(err, admit.ErrHeldTooLong):
		return false, newRefusal(reasonConnectTimeout)
	case errors.Is(err, admit.ErrClosed):
		return false, newRefusal(reasonShuttingDown)
	default:
		s.metrics.failed.Inc()
		return false, nil // the client reads no answer
	}
}

// awaitResume is awaitAdmission for a client that has proven its right to c. While a handshake for
// c waits, each further handshake for c is in line with new clients. Otherwise a client with a
// single connection could take all turns and places of class admit.Resume.
func (h *handshake) awaitResume(c *hub.Connection) (bool, *requestRefusal) {
	class := admit.Resume
	if _, waits := h.server.resuming.LoadOrStore(c, nil); waits {
		class = admit.Connect
	} else {
		defer h.server.resuming.Delete(c)
	}
	return h.awaitAdmission(class)
}

// Room returns how many clients could connect now without being held, and how many links the hub
// may have more. A hub that drains asks its peers for this before it sends connections to them. The
// hub's own limit, hub.Config.MaxConnections, is not counted.
func (s *Server) Room() (connects, links int) {
	return s.queue.Left(), max(0, s.config.MaxLinks-int(s.links.Load()))
}

// keepWatching takes away the deadline of a request that net/http has read. Behind it net/http
// would take the client for gone.
func (h *handshake) keepWatching() {
	// An opening.Request has no such deadline: its context lifts it.
	_ = http.NewResponseController(h.w).SetReadDeadline(time.Time{})
}
