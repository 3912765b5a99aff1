package node

import (
	"log/slog"

	"github.com/connhub/connhub/internal/loopback"
)

// LogPlainSecrets warns in a single line of the secrets that cross the network in plain text.
func (p *Config) LogPlainSecrets(logger *slog.Logger) {
	var problems []string
	if p.Secrets != nil && p.ControlTLS == nil && !loopback.IsHost(p.ListenControl) {
		problems = append(problems, "backends show secrets of --backend-secret-file in plain text "+
			"to reach --listen-control "+p.ListenControl)
	}
	if c := p.Cluster; c != nil && c.PeerSecret != "" && c.PeerTLS == nil {
		problems = append(problems,
			"this hub shows --peer-secret-file in plain text to each address in etcd")
	}
	if len(problems) > 0 {
		logger.Warn("secrets cross the network in plain text; --control-tls-cert-file protects "+
			"them",
			slog.Any("problems", problems))
	}
}
