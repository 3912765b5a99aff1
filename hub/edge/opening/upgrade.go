package opening

import (
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/connhub/connhub/hub/edge/lobby"
)

// Version is the only version of the protocol (RFC 6455 §4.1).
const Version = "13"

// CheckUpgrade checks a request by RFC 6455 §4.2.1. It returns the problem, for the client, or "".
func CheckUpgrade(r *http.Request) (problem string) {
	keys := r.Header.Values("Sec-WebSocket-Key")
	switch {
	case !r.ProtoAtLeast(1, 1):
		return "want HTTP/1.1"
	case !hasToken(r.Header, "Connection", "upgrade"), !hasToken(r.Header, "Upgrade", "websocket"):
		return "want a WebSocket upgrade"
	case r.Header.Get("Sec-WebSocket-Version") != Version:
		return "want Sec-WebSocket-Version: 13"
	case len(keys) != 1:
		return "want one Sec-WebSocket-Key"
	case lobby.HasBody(r): // its bytes would be read as frames
		return "want no body"
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(keys[0]))
	if err != nil || len(key) != 16 {
		return "want a Sec-WebSocket-Key of 16 bytes in base64"
	}
	return ""
}

// Accept answers 101 (RFC 6455 §4.2.2) to a request in which CheckUpgrade has found nothing wrong.
// The answer names the first of subprotocols, if there is one. With compressed it has Agreement.
func Accept(w http.ResponseWriter, r *http.Request, subprotocols []string, compressed bool) {
	answer := w.Header()
	answer.Set("Connection", "Upgrade")
	answer.Set("Upgrade", "websocket")
	answer.Set("Sec-WebSocket-Accept", acceptKey(r.Header.Get("Sec-WebSocket-Key")))
	if len(subprotocols) > 0 {
		answer.Set("Sec-WebSocket-Protocol", subprotocols[0])
	}
	if compressed {
		answer.Set(Extension, Agreement)
	}
	w.WriteHeader(http.StatusSwitchingProtocols)
}

// acceptKey returns the proof that the server has understood a client's Sec-WebSocket-Key (RFC 6455
// §4.2.2). The standard wants SHA-1 and this suffix.
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(strings.TrimSpace(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// hasToken reports whether a header lists a token, case-insensitively.
func hasToken(h http.Header, name, token string) bool {
	equal := func(t string) bool { return strings.EqualFold(t, token) }
	return slices.ContainsFunc(ListTokens(h, name), equal)
}

// ListTokens splits a header that is a list (RFC 9110 §5.6.1), over all its lines.
func ListTokens(h http.Header, name string) []string {
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

// IsToken reports whether s is a token (RFC 9110 §5.6.2), as the name of a subprotocol must be.
func IsToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c <= ' ' || c >= 0x7F || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
	})
}
