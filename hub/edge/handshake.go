package edge

import (
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/admit"
	"github.com/connhub/connhub/hub/edge/opening"
	"github.com/connhub/connhub/hub/edge/take"
	"github.com/connhub/connhub/internal/names"
)

// connectClient turns a request into a link, or refuses it.
//
// Problem: a page may be sent messages from the moment its `onopen` fires. So the connection must
// be registered before the client gets the 101. But a failed handshake must leave nothing behind.
//
// Outline: connectClient checks everything that can be wrong with the request. Then the hub
// registers the connection, whose messages wait in its outbox. Then the upgrade is answered. Then a
// goroutine of the link binds the connection, which writes the waiting messages, and reads. The
// goroutine of connectClient ends here, and with it the memory for the request.
func (s *Server) connectClient(w http.ResponseWriter, r *http.Request, namespace string) {
	if !s.enterHandshake() {
		s.refuseRequest(w, r, newRefusal(reasonShuttingDown))
		return
	}
	defer s.goroutines.Done()
	if !s.reserveLinkSlot() {
		s.refuseRequest(w, r, newRefusal(reasonLinkLimit))
		return
	}
	var l *link
	defer func() { // also after a panic, from which the caller recovers
		if l == nil {
			s.releaseLinkSlot()
		}
	}()
	l, refused := s.admitClient(w, r, namespace)
	if refused != nil {
		s.refuseRequest(w, r, refused)
	}
}

// reserveLinkSlot counts the socket of a client, until releaseLinkSlot. It returns false if
// MaxLinks sockets are counted already.
func (s *Server) reserveLinkSlot() bool {
	if s.links.Add(1) > int64(s.config.MaxLinks) {
		s.links.Add(-1)
		return false
	}
	return true
}

func (s *Server) releaseLinkSlot() { s.links.Add(-1) }

// admitClient checks, registers, upgrades and starts the link. It returns nil, nil if the client
// went away meanwhile, or was declined.
func (s *Server) admitClient(
	w http.ResponseWriter, r *http.Request, namespace string,
) (*link, *requestRefusal) {
	if refused := s.checkRequest(r, namespace); refused != nil {
		return nil, refused
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, newRefusal(reasonNotUpgrade).withDetail("the query is malformed")
	}
	h := &handshake{server: s, w: w, r: r, query: query, namespace: namespace}
	h.protocol, h.subprotocols = s.chooseProtocol(
		opening.ListTokens(r.Header, "Sec-WebSocket-Protocol"))
	if resumable, ok := h.protocol.Protocol.(Resumable); ok {
		if id, token, ok := resumable.Resumes(query); ok {
			return h.resumeConnection(id, token)
		}
	}
	return h.attachConnection()
}

// handshake is a request for an upgrade that has passed the checks.
type handshake struct {
	server       *Server
	w            http.ResponseWriter
	r            *http.Request
	query        url.Values
	namespace    string
	protocol     *countedProtocol
	subprotocols []string // that the answer names
}

// attachConnection admits a new client.
func (h *handshake) attachConnection() (*link, *requestRefusal) {
	s := h.server
	client, refused := s.authenticateClient(h.r, h.query, h.namespace)
	if refused != nil {
		return nil, refused
	}
	if p, ok := h.protocol.Protocol.(Configurable); ok {
		var err error
		if client.claims.Private, err = p.Configure(h.query); err != nil {
			return nil, newRefusal(reasonName).withDetail(err.Error())
		}
	}
	if admitted, refused := h.awaitAdmission(admit.Connect); !admitted {
		return nil, refused
	}
	encoding := h.protocol.framed
	compressed := s.config.Compression && opening.OffersDeflate(h.r.Header)
	if compressed {
		encoding = h.protocol.deflated
	}
	c, err := s.config.Hub.Attach(h.r.Context(), hub.Admission{
		Namespace:     h.namespace,
		User:          client.user,
		Groups:        client.groups,
		Protocol:      encoding,
		RemoteAddress: h.r.RemoteAddr,
		Claims:        client.keptClaims(),
	})
	switch {
	case err != nil && h.r.Context().Err() != nil:
		s.metrics.failed.Inc()
		return nil, nil // the client hung up and reads no answer
	case err != nil:
		return nil, s.refuseAttach(err)
	}
	l := newLink(s, c, h.protocol)
	l.compressed = compressed
	if !h.upgradeRequest(l) {
		c.Close(cause.Handshake.CloseStatus())
		return nil, nil
	}
	l.startLink(nil)
	return l, nil
}

// resumeConnection gives a client its connection back, from a different hub if need be. If the
// connection can't be resumed, it completes the upgrade and closes with 1008: SDKs retry after an
// HTTP error. It does not check the client's access token. That token may have expired since, and
// the connection's own token is better proof.
func (h *handshake) resumeConnection(id, token string) (*link, *requestRefusal) {
	s := h.server
	back, err := s.config.Hub.Resume(h.r.Context(), h.namespace, id, token)
	elsewhere, isAdmitted := s.takes.Find(id, token, h.protocol.framed, err)
	if isAdmitted {
		if here, refused := h.takeConnection(elsewhere, token); !here {
			return nil, refused
		}
		// A different client may have its hub take the connection away again, before this client
		// has it. Where it ends is not known yet.
		back, err = s.config.Hub.Resume(h.r.Context(), h.namespace, id, token)
		if take.IsElsewhere(err) {
			return nil, newRefusal(reasonElsewhere)
		}
	}
	if errors.Is(err, hub.ErrShuttingDown) {
		return nil, newRefusal(reasonShuttingDown)
	}
	if err != nil || !h.speaksProtocolOf(back.Connection) || isTokenExpired(back.Connection) {
		return nil, h.declineResume()
	}
	if !isAdmitted {
		if admitted, refused := h.awaitResume(back.Connection); !admitted {
			return nil, refused
		}
	}
	l := newLink(s, back.Connection, h.protocol)
	l.compressed = back.Connection.Protocol() == hub.Protocol(h.protocol.deflated)
	if !h.upgradeRequest(l) {
		return nil, nil
	}
	l.startLink(back)
	return l, nil
}

// startLink binds the link, and has it read. back is that of a client that comes back, or nil.
func (l *link) startLink(back *hub.Resume) {
	l.server.metrics.accepted.Inc()
	l.socket.Start(func() { l.startServing(back) })
}

// isTokenExpired reports whether a connection ends with its token, and the token has expired.
func isTokenExpired(c *hub.Connection) bool {
	claims := c.Identity().Claims
	return claims != nil && !claims.Expires.IsZero() && !time.Now().Before(claims.Expires)
}

// speaksProtocolOf reports whether the client understands the messages that are already encoded for
// c.
func (h *handshake) speaksProtocolOf(c *hub.Connection) bool {
	switch c.Protocol() {
	case h.protocol.framed:
		return true
	case h.protocol.deflated:
		return opening.OffersDeflate(h.r.Header)
	default:
		return false
	}
}

// declineLinger is the time in which a declined client may answer the close.
const declineLinger = 2 * time.Second

// declineShare is the divisor of MaxStrangers and MaxLinks that gives the bound of declined
// clients. A resume needs no token, and its socket counts as a link's until the close is answered.
// So made-up resumes must not fill the links.
const declineShare = 8

// mostDeclines returns how many clients the hub may decline at once.
func (c *Config) mostDeclines() int64 {
	return int64(max(1, min(c.MaxStrangers, c.MaxLinks)/declineShare))
}

// declineResume upgrades and closes. If the hub declines mostDeclines clients already, it refuses
// the request instead.
func (h *handshake) declineResume() *requestRefusal {
	s := h.server
	defer s.declines.Add(-1)
	if s.declines.Add(1) > s.config.mostDeclines() {
		return newRefusal(reasonDeclineLimit)
	}
	s.metrics.declined.Inc()
	h.r.Header.Del(opening.Extension)
	ws, err := websocket.Accept(&closeOnlyHijacker{h.w}, h.r,
		&websocket.AcceptOptions{Subprotocols: h.subprotocols, InsecureSkipVerify: true})
	if err == nil {
		_ = ws.Close(websocket.StatusPolicyViolation, "the connection can't be resumed")
	}
	return nil
}

// checkRequest finds everything in a request that would make the upgrade fail.
func (s *Server) checkRequest(r *http.Request, namespace string) *requestRefusal {
	if r.Method != http.MethodGet {
		return newRefusal(reasonMethod)
	}
	if refused := s.checkOrigin(r); refused != nil {
		return refused
	}
	if !names.IsNamespace(namespace) {
		return newRefusal(reasonNamespace)
	}
	if problem := opening.CheckUpgrade(r); problem != "" {
		return newRefusal(reasonNotUpgrade).withDetail(problem)
	}
	return nil
}

// chooseProtocol returns the first known protocol among the client's offers, and the subprotocols
// for the answer. The client lists its offers in the order of its preference (RFC 6455 §4.1).
func (s *Server) chooseProtocol(offered []string) (*countedProtocol, []string) {
	for _, name := range offered {
		if i := slices.IndexFunc(s.protocols,
			func(p *countedProtocol) bool { return p.Name() == name }); i >= 0 {
			return s.protocols[i], []string{name}
		}
	}
	return s.plain, nil
}

func (s *Server) refuseAttach(err error) *requestRefusal {
	switch {
	case errors.Is(err, hub.ErrShuttingDown):
		return newRefusal(reasonShuttingDown)
	case errors.Is(err, hub.ErrTooManyConnections):
		return newRefusal(reasonHubFull)
	case errors.Is(err, hub.ErrGroupLimit):
		return newRefusal(reasonGroupLimit)
	default:
		s.config.Logger.Error("attach failed", slog.Any("error", err))
		return newRefusal(reasonInternal)
	}
}

// upgradeRequest answers 101 and gives the link its socket. It returns false if that failed.
func (h *handshake) upgradeRequest(l *link) bool {
	config, r := &h.server.config, h.r
	if claims := l.connection.Identity().Claims; claims != nil {
		l.beat.expireAt(claims.Expires, h.server.sinceStart())
	}
	// The answer is written when the socket is hijacked, which lifts the deadline. Only a test's
	// writer has no deadline to set.
	_ = http.NewResponseController(h.w).SetWriteDeadline(time.Now().Add(config.HandshakeTimeout))
	opening.Accept(h.w, r, h.subprotocols, l.compressed)
	if err := l.hijackSocket(h.w); err != nil {
		config.Logger.Debug("upgrade failed",
			slog.Any("error", err), slog.String("remote_address", r.RemoteAddr))
		l.server.metrics.failed.Inc()
		return false
	}
	return true
}
