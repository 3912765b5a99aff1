// Package origin decides which web pages may connect, by the Origin header of their browsers (RFC
// 6454). It has no state, and all of it is safe for concurrent use.
package origin

import (
	"net/url"
	"path"
	"strings"
	"unicode"

	"github.com/connhub/connhub/internal/loopback"
)

// Rules say which pages may connect. Requests without an origin are not those of a browser, and
// always pass.
type Rules struct {
	// Allowed are patterns that CheckPattern has found good. Empty: each origin passes.
	Allowed []string
	// LoopbackOnly admits only pages of this machine, whatever Allowed has.
	LoopbackOnly bool
	// Own is the hub's own URL, http(s) or ws(s), whose pages pass. It may be nil.
	Own *url.URL
}

// Admit reports whether a page with this Origin header may connect. Browsers let any page open a
// WebSocket to any server, and leave the decision to the server (RFC 6455 §10.2).
func (r *Rules) Admit(origin string) bool {
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || r.LoopbackOnly && !loopback.IsHost(u.Host) {
		return false
	}
	if len(r.Allowed) == 0 || r.isOwn(u) {
		return true
	}
	for _, pattern := range r.Allowed {
		target := u.Host
		if strings.Contains(pattern, "://") {
			target = u.Scheme + "://" + u.Host
		}
		// CheckPattern has checked the pattern.
		if ok, _ := path.Match(strings.ToLower(pattern), strings.ToLower(target)); ok &&
			u.Host != "" {
			return true
		}
	}
	return false
}

// isOwn reports whether a page comes from the origin of Own.
func (r *Rules) isOwn(u *url.URL) bool {
	if r.Own == nil || !strings.EqualFold(r.Own.Host, u.Host) {
		return false
	}
	secure := r.Own.Scheme == "https" || r.Own.Scheme == "wss"
	return secure == (u.Scheme == "https")
}

// impliedPorts are the ports that browsers leave out of an origin (RFC 6454 §6.2).
var impliedPorts = map[string]string{"http": "80", "https": "443"}

// wildcards are the special characters of a pattern (path.Match).
const wildcards = `*?[\\`

// CheckPattern returns the reason why a pattern can never admit a page, or "". With
// loopbackOnly the hub serves only pages of this machine, whatever the pattern matches.
func CheckPattern(pattern string, loopbackOnly bool) string {
	scheme, host, hasScheme := strings.Cut(strings.ToLower(pattern), "://")
	if !hasScheme {
		scheme, host = "", scheme
	}
	_, err := path.Match(pattern, "")
	switch {
	case err != nil || pattern == "":
		return "is not a pattern"
	case scheme == "" && host == "null":
		return "is what browsers send for pages without an origin: sandboxed frames and files, " +
			"of any site. They can't be allowed"
	case host == "":
		return "has no host"
	case strings.ContainsAny(host, "/@#") || strings.ContainsFunc(pattern, unicode.IsSpace):
		return "can't match: an origin is a host, or a scheme and a host, with a port if it is " +
			"not the scheme's own"
	case loopbackOnly && !strings.ContainsAny(host, wildcards) && !loopback.IsHost(host):
		return "has no effect: only pages of this machine are served"
	}
	return checkScheme(scheme, host)
}

// checkScheme returns the problem of a pattern's scheme, in lower case, or of its port with
// that scheme, or "".
func checkScheme(scheme, host string) string {
	if scheme == "ws" || scheme == "wss" {
		return "can't match: an origin is where the page comes from, http:// or https://"
	}
	if port := impliedPorts[scheme]; port != "" && strings.HasSuffix(host, ":"+port) {
		return "can't match: browsers leave out the port " + port + " of " + scheme
	}
	return ""
}
