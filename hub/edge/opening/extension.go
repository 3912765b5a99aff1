package opening

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Extension is the header in which client and server agree on compression.
const Extension = "Sec-WebSocket-Extensions"

// OffersDeflate reports whether a client offers a compression that the hub can agree to. That is
// any permessage-deflate that does not limit the hub's window (RFC 7692 §7.1).
func OffersDeflate(h http.Header) bool {
	return slices.ContainsFunc(ListTokens(h, Extension), func(offer string) bool {
		parts := strings.Split(offer, ";")
		seen := make(map[string]bool)
		for _, parameter := range parts[1:] {
			name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if seen[name] || !isParameterAcceptable(name, strings.Trim(value, `"`)) {
				return false
			}
			seen[name] = true
		}
		return strings.TrimSpace(parts[0]) == "permessage-deflate"
	})
}

// isParameterAcceptable reports whether an offer may have this parameter. An unknown parameter
// makes an offer void (RFC 7692 §7.1).
func isParameterAcceptable(name, value string) bool {
	bits, err := strconv.Atoi(value)
	inRange := err == nil && len(value) <= 2 && '1' <= value[0] && value[0] <= '9' && 8 <= bits &&
		bits <= 15
	switch name {
	case "server_no_context_takeover", "client_no_context_takeover":
		return value == ""
	case "client_max_window_bits":
		return value == "" || inRange // the hub can read any window
	// server_max_window_bits is refused too. It must be answered, even with the hub's own size
	// (§7.1.2.1), and coder/websocket does not.
	default:
		return false
	}
}

// Agreement is the compression that the hub agrees to (RFC 7692 §7.1.1).
const Agreement = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
