package edge

import (
	"net/http"
	"net/url"
	"path"
	"strings"
	"unicode"

	"github.com/connhub/connhub/internal/loopback"
)

// checkHost refuses requests for names that are not loopback names, with LoopbackOnly. A page of a
// foreign site can point its own name at the loopback address (DNS rebinding), but it can't choose
// the Host header.
func (s *Server) checkHost(r *http.Request) *requestRefusal {
	if s.config.LoopbackOnly && !loopback.IsHost(r.Host) {
		return newRefusal(reasonHost)
	}
	return nil
}

// checkOrigin refuses pages of origins that are not allowed. Browsers let any page open a WebSocket
// to any server, and leave the decision to the server (RFC 6455 §10.2).
func (s *Server) checkOrigin(r *http.Request) *requestRefusal {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	u, err := url.Parse(origin)
	if err != nil {
		return newRefusal(reasonOrigin)
	}
	if s.config.LoopbackOnly && !loopback.IsHost(u.Host) {
		return newRefusal(reasonOrigin)
	}
	if len(s.config.AllowedOrigins) == 0 || s.ownOrigin(u) {
		return nil
	}
	for _, pattern := range s.config.AllowedOrigins {
		target := u.Host
		if strings.Contains(pattern, "://") {
			target = u.Scheme + "://" + u.Host
		}
		// Validate has checked the pattern.
		if ok, _ := path.Match(strings.ToLower(pattern), strings.ToLower(target)); ok &&
			u.Host != "" {
			return nil
		}
	}
	return newRefusal(reasonOrigin)
}

// impliedPorts are the ports that browsers leave out of an origin (RFC 6454 §6.2).
var impliedPorts = map[string]string{"http": "80", "https": "443"}

// wildcards are the special characters of a pattern (path.Match).
const wildcards = `*?[\\`

// checkOriginPattern returns the reason why a pattern can never admit a page, or "". With
// loopbackOnly the hub serves only pages of this machine, whatever the pattern matches.
func checkOriginPattern(pattern string, loopbackOnly bool) string {
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
	return checkOriginScheme(scheme, host)
}

// checkOriginScheme returns the problem of a pattern's scheme, in lower case, or of its port with
// that scheme, or "".
func checkOriginScheme(scheme, host string) string {
	if scheme == "ws" || scheme == "wss" {
		return "can't match: an origin is where the page comes from, http:// or https://"
	}
	if port := impliedPorts[scheme]; port != "" && strings.HasSuffix(host, ":"+port) {
		return "can't match: browsers leave out the port " + port + " of " + scheme
	}
	return ""
}

// ownOrigin reports whether a page came from PublicURL's own origin.
func (s *Server) ownOrigin(u *url.URL) bool {
	own := s.config.PublicURL
	if own == nil || !strings.EqualFold(own.Host, u.Host) {
		return false
	}
	secure := own.Scheme == "https" || own.Scheme == "wss"
	return secure == (u.Scheme == "https")
}
