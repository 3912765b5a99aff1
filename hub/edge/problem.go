package edge

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/connhub/connhub/hub/edge/opening"
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
	reasonShuttingDown: {503, "SHUTTING_DOWN", "the hub is shutting down"},
	reasonNotServed: {
		501, "NOT_IMPLEMENTED",
		"the REST API of Web PubSub is not served; backends call connhub.control.v1 over " +
			"gRPC, at the control port",
	},
	reasonInternal: {500, "INTERNAL", "the hub failed"},
}

// Waits in the answer to a refused client (Retry-After).
const (
	retryFull         = 10 * time.Second // connections come and go
	retryShuttingDown = 1 * time.Second  // a peer takes over at once
)

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
	case reasonHubFull, reasonLinkLimit:
		h.Set("Retry-After", formatSeconds(retryFull))
	case reasonDeclineLimit:
		h.Set("Retry-After", formatSeconds(declineLinger))
	case reasonShuttingDown:
		h.Set("Retry-After", formatSeconds(retryShuttingDown))
	default:
	}
	w.WriteHeader(row.status)
	_, _ = w.Write(body) // a client that does not read the answer has no use for it
}

func formatSeconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
