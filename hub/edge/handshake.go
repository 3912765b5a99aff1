package edge

import (
	"context"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/internal/names"
)

// webSocketVersion is the only version of the protocol (RFC 6455 §4.1).
const webSocketVersion = "13"

// connect turns a request into a link, or refuses it.
//
// Problem: a page may be sent to from the moment its `onopen` fires, so the connection must be registered
// before the client gets the 101; but a handshake that fails must leave nothing behind.
//
// Outline: everything that can be wrong with the request is checked first. Then the hub registers the
// connection, whose messages wait in its outbox; then the upgrade is answered; then a goroutine of the link's
// own binds it, which writes what has waited, and reads. This goroutine is net/http's: it ends here, and with
// it net/http's memory for the connection.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, namespace string) {
	if !s.enter() {
		s.refuse(w, r, refuse(reasonShuttingDown))
		return
	}
	defer s.goroutines.Done()
	if !s.reserveLink() {
		s.refuse(w, r, refuse(reasonLinkLimit))
		return
	}
	l, refused := s.admit(w, r, namespace)
	if l == nil {
		s.releaseLink()
	}
	switch {
	case refused != nil:
		s.refuse(w, r, refused)
	case l != nil:
		s.metrics.accepted.Inc()
		l.socket.run()
	}
}

// reserveLink counts the socket of a client, until releaseLink. It reports false if there are as many as there may be.
func (s *Server) reserveLink() bool {
	if s.links.Add(1) > int64(s.config.MaxLinks) {
		s.links.Add(-1)
		return false
	}
	return true
}

func (s *Server) releaseLink() { s.links.Add(-1) }

// admit checks, registers and upgrades. It returns nothing at all when the client went away meanwhile, or was declined.
func (s *Server) admit(w http.ResponseWriter, r *http.Request, namespace string) (*link, *refusal) {
	if refused := s.check(r, namespace); refused != nil {
		return nil, refused
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refuse(reasonNotUpgrade).because("the query is malformed")
	}
	h := &handshake{server: s, w: w, r: r, query: query, namespace: namespace}
	h.protocol, h.subprotocols = s.choose(tokens(r.Header, "Sec-WebSocket-Protocol"))
	if resumable, ok := h.protocol.Protocol.(Resumable); ok {
		if id, token, ok := resumable.Resumes(query); ok {
			return h.resume(id, token)
		}
	}
	return h.attach()
}

// handshake is a request for an upgrade that can be had.
type handshake struct {
	server       *Server
	w            http.ResponseWriter
	r            *http.Request
	query        url.Values
	namespace    string
	protocol     *spoken
	subprotocols []string // that the answer names
}

// attach lets a new client in.
func (h *handshake) attach() (*link, *refusal) {
	s := h.server
	client, refused := s.authenticate(h.r, h.query, h.namespace)
	if refused != nil {
		return nil, refused
	}
	if p, ok := h.protocol.Protocol.(Configurable); ok {
		var err error
		if client.claims.Private, err = p.Configure(h.query); err != nil {
			return nil, refuse(reasonName).because(err.Error())
		}
	}
	encoding := h.protocol.Protocol
	compressed := s.config.Compression && offersDeflate(h.r.Header)
	if compressed {
		encoding = h.protocol.deflated
	}
	c, err := s.config.Hub.Attach(h.r.Context(), hub.Admission{
		Namespace:     h.namespace,
		User:          client.user,
		Groups:        client.groups,
		Protocol:      encoding,
		RemoteAddress: h.r.RemoteAddr,
		Claims:        client.kept(),
	})
	switch {
	case err != nil && h.r.Context().Err() != nil:
		s.metrics.failed.Inc()
		return nil, nil // the client hung up: nobody reads an answer
	case err != nil:
		return nil, s.refuseAttach(err)
	}
	l := newLink(s, c, h.protocol)
	l.compressed = compressed
	if !h.upgrade(l) {
		c.Close(cause.Handshake.CloseStatus())
		return nil, nil
	}
	return l, nil
}

// resume gives a client its connection back. Who can't have it is told so by a close behind the upgrade (1008): clients take any other refusal
// for one that passes. The client's access token is not looked at: it may have expired since, and the connection's own is better.
func (h *handshake) resume(id, token string) (*link, *refusal) {
	s := h.server
	back, err := s.config.Hub.Resume(h.r.Context(), h.namespace, id, token)
	if errors.Is(err, hub.ErrShuttingDown) {
		return nil, refuse(reasonShuttingDown)
	}
	if err != nil || !h.speaks(back.Connection) || expired(back.Connection) {
		return nil, h.decline()
	}
	l := newLink(s, back.Connection, h.protocol)
	l.resume = back
	l.compressed = back.Connection.Protocol() == h.protocol.deflated
	if !h.upgrade(l) {
		return nil, nil
	}
	return l, nil
}

// expired reports whether a connection ends with its token, and that is over.
func expired(c *hub.Connection) bool {
	claims := c.Identity().Claims
	return claims != nil && !claims.Expires.IsZero() && !time.Now().Before(claims.Expires)
}

// speaks reports whether the client can have what is encoded for a connection already.
func (h *handshake) speaks(c *hub.Connection) bool {
	switch c.Protocol() {
	case h.protocol.Protocol:
		return true
	case h.protocol.deflated:
		return offersDeflate(h.r.Header)
	default:
		return false
	}
}

// declineLinger is how long a client that is declined may take to answer the close.
const declineLinger = 2 * time.Second

// declineShare is the part of MaxStrangers and of MaxLinks that declined clients may hold. A resume needs no token, and
// its socket is a link's until the close is answered, so strangers must not fill the links with made-up resumes.
const declineShare = 8

// mostDeclines is how many clients the hub declines at once.
func (c *Config) mostDeclines() int64 {
	return int64(max(1, min(c.MaxStrangers, c.MaxLinks)/declineShare))
}

// decline upgrades and closes. When the hub declines as many clients as it may already, decline refuses the request instead.
func (h *handshake) decline() *refusal {
	s := h.server
	defer s.declines.Add(-1)
	if s.declines.Add(1) > s.config.mostDeclines() {
		return refuse(reasonDeclineLimit)
	}
	s.metrics.declined.Inc()
	agree(h.r.Header, false)
	ws, err := websocket.Accept(&briefly{h.w}, h.r, &websocket.AcceptOptions{Subprotocols: h.subprotocols, InsecureSkipVerify: true})
	if err == nil {
		_ = ws.Close(websocket.StatusPolicyViolation, "the connection can't be resumed")
	}
	return nil
}

// check finds everything in a request that would make the upgrade fail.
func (s *Server) check(r *http.Request, namespace string) *refusal {
	if r.Method != http.MethodGet {
		return refuse(reasonMethod)
	}
	if refused := s.checkOrigin(r); refused != nil {
		return refused
	}
	if !names.IsNamespace(namespace) {
		return refuse(reasonNamespace)
	}
	return checkUpgrade(r)
}

// checkUpgrade is RFC 6455 §4.2.1.
func checkUpgrade(r *http.Request) *refusal {
	keys := r.Header.Values("Sec-WebSocket-Key")
	wrong := refuse(reasonNotUpgrade)
	switch {
	case !r.ProtoAtLeast(1, 1):
		return wrong.because("want HTTP/1.1")
	case !hasToken(r.Header, "Connection", "upgrade"), !hasToken(r.Header, "Upgrade", "websocket"):
		return wrong
	case r.Header.Get("Sec-WebSocket-Version") != webSocketVersion:
		return wrong.because("want Sec-WebSocket-Version: 13")
	case len(keys) != 1:
		return wrong.because("want one Sec-WebSocket-Key")
	case lobby.HasBody(r): // its bytes would be read as frames
		return wrong.because("want no body")
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(keys[0]))
	if err != nil || len(key) != 16 {
		return wrong.because("want a Sec-WebSocket-Key of 16 bytes in base64")
	}
	return nil
}

// choose picks the first protocol that the client offers and that is known, and what the answer says about it: the client
// lists them in the order in which it likes them (RFC 6455 §4.1).
func (s *Server) choose(offered []string) (*spoken, []string) {
	for _, name := range offered {
		if i := slices.IndexFunc(s.protocols, func(p *spoken) bool { return p.Name() == name }); i >= 0 {
			return s.protocols[i], []string{name}
		}
	}
	return s.plain, nil
}

func (s *Server) refuseAttach(err error) *refusal {
	switch {
	case errors.Is(err, hub.ErrShuttingDown):
		return refuse(reasonShuttingDown)
	case errors.Is(err, hub.ErrTooManyConnections):
		return refuse(reasonHubFull)
	case errors.Is(err, hub.ErrGroupLimit):
		return refuse(reasonGroupLimit)
	default:
		s.config.Logger.Error("attach failed", slog.Any("error", err))
		return refuse(reasonInternal)
	}
}

// upgrade answers 101 and gives the link its socket. It reports false when that failed.
func (h *handshake) upgrade(l *link) bool {
	config, r := &h.server.config, h.r
	if claims := l.connection.Identity().Claims; claims != nil {
		l.expireAt(claims.Expires)
	}
	// The answer is written when the socket is hijacked, which lifts the deadline. A writer that has none
	// is a test's.
	_ = http.NewResponseController(h.w).SetWriteDeadline(time.Now().Add(config.HandshakeTimeout))
	agree(r.Header, l.compressed)
	ws, err := websocket.Accept(&upgrade{h.w, l}, r, &websocket.AcceptOptions{
		Subprotocols:       h.subprotocols,
		InsecureSkipVerify: true,                                   // checkOrigin has done it, with our patterns
		CompressionMode:    websocket.CompressionNoContextTakeover, // where agree says so
		OnPongReceived:     func(_ context.Context, payload []byte) { l.pong(payload) },
	})
	if err != nil {
		config.Logger.Debug("upgrade failed",
			slog.Any("error", err), slog.String("remote_address", r.RemoteAddr))
		l.server.metrics.failed.Inc()
		return false
	}
	ws.SetReadLimit(h.protocol.most)
	l.ws = ws
	l.buffered.Reset((*wire)(l)) // the library has put an empty reader before ours
	return true
}

// hasToken reports whether a header lists a token, without regard to case.
func hasToken(h http.Header, name, token string) bool {
	return slices.ContainsFunc(tokens(h, name), func(t string) bool { return strings.EqualFold(t, token) })
}

// tokens splits a header that is a list (RFC 9110 §5.6.1), over all its lines.
func tokens(h http.Header, name string) []string {
	var list []string
	for _, line := range h.Values(name) {
		for t := range strings.SplitSeq(line, ",") {
			if t = strings.TrimSpace(t); t != "" {
				list = append(list, t)
			}
		}
	}
	return list
}

// isToken reports whether s is a token (RFC 9110 §5.6.2), as the name of a subprotocol must be.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7F || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}
