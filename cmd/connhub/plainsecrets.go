package main

import (
	"log/slog"

	"github.com/connhub/connhub/internal/loopback"
)

// logPlainSecrets warns in a single line of the secrets that cross the network in plain text.
func (p *serverPlan) logPlainSecrets(logger *slog.Logger) {
	var problems []string
	if p.secrets != nil && p.controlTLS == nil && !loopback.IsHost(p.listenControl) {
		problems = append(problems, "backends show secrets of --backend-secret-file in plain text "+
			"to reach --listen-control "+p.listenControl)
	}
	if c := p.cluster; c != nil && c.peerSecret != "" && c.peerTLS == nil {
		problems = append(problems,
			"this hub shows --peer-secret-file in plain text to each address in etcd")
	}
	if len(problems) > 0 {
		logger.Warn("secrets cross the network in plain text; --control-tls-cert-file protects "+
			"them",
			slog.Any("problems", problems))
	}
}
