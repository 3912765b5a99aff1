package edge

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/connhub/connhub/hub/edge/admit"
	"github.com/connhub/connhub/hub/edge/opening"
	"github.com/connhub/connhub/hub/edge/take"
)

// reason is why a handshake was refused. Clients see it in upper case in the problem document. It
// is the metric label in lower case.
type reason uint8

const (
	reasonNotFound reason = iota + 1
	reasonMethod
	reasonHost
	reasonOrigin
	reasonNamespace
	reasonNotUpgrade
	reasonTokenMissing
	reasonTokenInvalid
	reasonTokenExpired
	reasonName
	reasonGroupLimit
	reasonHubFull
	reasonLinkLimit
	reasonDeclineLimit
	reasonElsewhere
	reasonTakeLimit
	reasonConnectRate
	reasonConnectTimeout
	reasonShuttingDown
	reasonInternal
	reasonNotServed

	reasonEnd
)

// metricLabel returns the reason in lower case.
func (r reason) metricLabel() string { return strings.ToLower(reasons[r].code) }

// reasons is the table for the log, the metric and the answer.
var reasons = [reasonEnd]struct {
	status int    // of HTTP
	code   string // for programs
	detail string // for people; a refusal may have a more exact detail
}{
	reasonNotFound:   {404, "NOT_FOUND", "clients connect at /client/hubs/{namespace}"},
	reasonMethod:     {405, "METHOD_NOT_ALLOWED", "want GET"},
	reasonHost:       {403, "HOST_NOT_ALLOWED", "this hub only answers to loopback names"},
	reasonOrigin:     {403, "ORIGIN_NOT_ALLOWED", "pages of this origin may not connect"},
	reasonNamespace:  {400, "NAMESPACE_INVALID", "want [a-z][a-z0-9_.-]{0,127}"},
	reasonNotUpgrade: {400, "UPGRADE_INVALID", "want a WebSocket upgrade"},
	reasonTokenMissing: {
		401, "TOKEN_MISSING",
		"want a token, as access_token in the query or as Authorization: Bearer",
	},
	reasonTokenInvalid: {401, "TOKEN_INVALID", "the token is not valid here"},
	reasonTokenExpired: {401, "TOKEN_EXPIRED", "the token is expired"},
	reasonName:         {400, "NAME_INVALID", "the name of the user or of a group breaks a rule"},
	reasonGroupLimit:   {400, "GROUP_LIMIT", "too many groups"},
	reasonHubFull:      {503, "HUB_FULL", "the hub holds the most connections it may"},
	reasonLinkLimit: {
		503, "LINK_LIMIT",
		"connection limit reached: the hub has no file descriptor left for a client",
	},
	reasonDeclineLimit: {
		503, "RESUME_LIMIT",
		"limit of failed resumes reached: the hub closes as many at once as it may",
	},
	reasonElsewhere: {
		503, "CONNECTION_ELSEWHERE",
		"the connection is at another hub, which can't hand it over now",
	},
	reasonTakeLimit: {
		503, "TAKE_LIMIT",
		"limit reached: as many clients wait for connections of other hubs as may wait",
	},
	reasonConnectRate: {
		503, "CONNECT_RATE",
		"more clients connect than the hub admits per second, and as many wait as it may hold",
	},
	reasonConnectTimeout: {
		503, "CONNECT_TIMEOUT",
		"more clients connect than the hub admits per second: this client had no turn in time",
	},
	reasonShuttingDown: {503, "SHUTTING_DOWN", "the hub is shutting down"},
	reasonNotServed: {
		501, "NOT_IMPLEMENTED",
		"the REST API of Web PubSub is not served; backends call connhub.control.v1 over " +
			"gRPC, at the control port",
	},
	reasonInternal: {500, "INTERNAL", "the hub failed"},
}

// retries are the times after which refused clients should come back. Each client is told a time
// around it. The answer for a reason without a time has no Retry-After. That of reasonConnectRate
// and reasonConnectTimeout comes from the queue.
var retries = [reasonEnd]time.Duration{
	reasonHubFull:      10 * time.Second, // connections come and go
	reasonLinkLimit:    10 * time.Second,
	reasonDeclineLimit: declineLinger,
	reasonElsewhere:    2 * time.Second, // most moves take less; a dead hub is known after 15 s
	reasonTakeLimit:    take.Timeout,    // then all takes of now have ended
	reasonShuttingDown: time.Second,     // a peer takes over at once
}

// setRetryAfter tells a refused client when to come back. Only clients that have proven who they
// are get a place in the queue's line: made-up clients could make it long.
func (s *Server) setRetryAfter(h http.Header, why reason) {
	var after time.Duration
	switch {
	case why == reasonConnectRate, why == reasonConnectTimeout:
		after = s.queue.RetryAfter()
	case retries[why] > 0:
		after = admit.Jitter(retries[why])
	default:
		return
	}
	h.Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
}

// requestRefusal is why a request ends before the upgrade.
type requestRefusal struct {
	reason reason
	detail string // never has text from a query: that may be a token
}

func newRefusal(r reason) *requestRefusal {
	return &requestRefusal{reason: r, detail: reasons[r].detail}
}

func (r *requestRefusal) withDetail(detail string) *requestRefusal {
	r.detail = detail
	return r
}

// problem is the body of a refusal (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Reason string `json:"reason"`
}

// writeProblem answers a request with the refusal.
func (r *requestRefusal) writeProblem(w http.ResponseWriter) {
	row := reasons[r.reason]
	body, err := json.Marshal(problem{
		Type:   "about:blank",
		Title:  http.StatusText(row.status),
		Status: row.status,
		Detail: r.detail,
		Reason: row.code,
	})
	if err != nil {
		panic(err) // the document is strings and a number
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close") // or a refused client would keep a socket of the hub
	switch r.reason {
	case reasonMethod:
		h.Set("Allow", http.MethodGet)
	case reasonNotUpgrade:
		h.Set("Sec-WebSocket-Version", opening.Version) // RFC 6455 §4.4
	case reasonTokenMissing:
		h.Set("WWW-Authenticate", "Bearer") // RFC 6750 §3
	case reasonTokenInvalid, reasonTokenExpired:
		h.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	default:
	}
	w.WriteHeader(row.status)
	_, _ = w.Write(body) // a client that does not read the answer has no use for it
}
