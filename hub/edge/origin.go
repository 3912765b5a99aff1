package edge

import (
	"net/http"

	"github.com/connhub/connhub/hub/edge/origin"
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

// checkOrigin refuses pages of origins that are not allowed.
func (s *Server) checkOrigin(r *http.Request) *requestRefusal {
	c := &s.config
	rules := origin.Rules{
		Allowed: c.AllowedOrigins, LoopbackOnly: c.LoopbackOnly, Own: c.PublicURL,
	}
	if !rules.Admit(r.Header.Get("Origin")) {
		return newRefusal(reasonOrigin)
	}
	return nil
}
