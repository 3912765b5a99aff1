package edge

import (
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// reason says why a handshake was refused. Clients see it in upper case in the problem document, and it is
// the metric label in lower case.
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

// reasons is the one table: what is logged, counted and answered.
var reasons = [reasonEnd]struct {
	status int
	code   string // for programs
	label  string // in metrics
	detail string // for people, where the caller knows nothing better
}{
	reasonNotFound:     {http.StatusNotFound, "NOT_FOUND", "not_found", "clients connect at /client/hubs/{namespace}"},
	reasonMethod:       {http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED", "method_not_allowed", "want GET"},
	reasonHost:         {http.StatusForbidden, "HOST_NOT_ALLOWED", "host_not_allowed", "this hub only answers to loopback names"},
	reasonOrigin:       {http.StatusForbidden, "ORIGIN_NOT_ALLOWED", "origin_not_allowed", "pages of this origin may not connect"},
	reasonNamespace:    {http.StatusBadRequest, "NAMESPACE_INVALID", "namespace_invalid", "want [a-z][a-z0-9_.-]{0,127}"},
	reasonNotUpgrade:   {http.StatusBadRequest, "UPGRADE_INVALID", "upgrade_invalid", "want a WebSocket upgrade"},
	reasonTokenMissing: {http.StatusUnauthorized, "TOKEN_MISSING", "token_missing", "want a token, as access_token in the query or as Authorization: Bearer"},
	reasonTokenInvalid: {http.StatusUnauthorized, "TOKEN_INVALID", "token_invalid", "the token is not valid here"},
	reasonTokenExpired: {http.StatusUnauthorized, "TOKEN_EXPIRED", "token_expired", "the token is expired"},
	reasonName:         {http.StatusBadRequest, "NAME_INVALID", "name_invalid", "the name of the user or of a group breaks a rule"},
	reasonGroupLimit:   {http.StatusBadRequest, "GROUP_LIMIT", "group_limit", "too many groups"},
	reasonHubFull:      {http.StatusServiceUnavailable, "HUB_FULL", "hub_full", "the hub holds the most connections it may"},
	reasonLinkLimit:    {http.StatusServiceUnavailable, "LINK_LIMIT", "link_limit", "connection limit reached: the hub has no file descriptor left for a client"},
	reasonDeclineLimit: {http.StatusServiceUnavailable, "RESUME_LIMIT", "resume_limit", "limit of failed resumes reached: the hub closes as many at once as it may"},
	reasonShuttingDown: {http.StatusServiceUnavailable, "SHUTTING_DOWN", "shutting_down", "the hub is shutting down"},
	reasonNotServed:    {http.StatusNotImplemented, "NOT_IMPLEMENTED", "not_implemented", "the REST API of Web PubSub is not served; backends call connhub.control.v1 over gRPC, at the control port"},
	reasonInternal:     {http.StatusInternalServerError, "INTERNAL", "internal", "the hub failed"},
}

// Waits that a refused client is told (Retry-After).
const (
	retryFull         = 10 * time.Second // connections come and go
	retryShuttingDown = 1 * time.Second  // another hub takes over at once
)

// refusal is why a request ends before the upgrade.
type refusal struct {
	reason reason
	detail string // never holds what came in a query: that may be a token
}

func refuse(r reason) *refusal { return &refusal{reason: r, detail: reasons[r].detail} }

func (r *refusal) because(detail string) *refusal {
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

// write answers a request with the refusal.
func (r *refusal) write(w http.ResponseWriter) {
	row := reasons[r.reason]
	body, err := json.Marshal(problem{
		Type:   "about:blank",
		Title:  http.StatusText(row.status),
		Status: row.status,
		Detail: r.detail,
		Reason: row.code,
	})
	if err != nil {
		panic(err) // strings and a number
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("Connection", "close") // or whoever is refused keeps a socket of the hub
	switch r.reason {
	case reasonMethod:
		h.Set("Allow", http.MethodGet)
	case reasonNotUpgrade:
		h.Set("Sec-WebSocket-Version", webSocketVersion) // RFC 6455 §4.4
	case reasonTokenMissing:
		h.Set("WWW-Authenticate", "Bearer") // RFC 6750 §3
	case reasonTokenInvalid, reasonTokenExpired:
		h.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
	case reasonHubFull, reasonLinkLimit:
		h.Set("Retry-After", seconds(retryFull))
	case reasonDeclineLimit:
		h.Set("Retry-After", seconds(declineLinger))
	case reasonShuttingDown:
		h.Set("Retry-After", seconds(retryShuttingDown))
	default:
	}
	w.WriteHeader(row.status)
	_, _ = w.Write(body) // who does not read the answer has no use for it
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d / time.Second)) }
