package main

import (
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// The shares of a process's files. The least values are for small limits. Each share grows with the
// limit, up to its most.
const (
	// ownFiles are the files of the hub itself: standard streams, listeners, epolls, etcd's client,
	// files that it reads (keys, certificates, /proc for a scrape), sockets between two owners.
	ownFiles = 28
	// etcdFiles are the files of an etcd inside this process: its log, snapshots and clients. etcd
	// refuses to start with fewer.
	etcdFiles = 150

	leastOps, mostOps = 8, 64 // connections of the operations port
	// Connections to the control port come from backends and from peers.
	leastControl, mostControl     = 24, 4096
	leastPeers, mostPeers         = 20, 1024 // connections to peers: five to each
	leastStrangers, mostStrangers = 16, 2048 // of the clients' port
	leastLinks                    = 8        // sockets of clients, which get the rest
)

// files are the shares of the process's file descriptors, so that no use of them starves another.
type files struct {
	limit int // of the process (RLIMIT_NOFILE)

	ops, control, peers, strangers, links int
}

// shareFiles shares out limit file descriptors. It returns an error if there are too few to run a
// hub.
func shareFiles(limit int, etcdInside bool) (files, error) {
	share := func(part, least, most int) int { return min(max(limit/part, least), most) }
	f := files{
		limit:     limit,
		ops:       share(32, leastOps, mostOps),
		control:   share(16, leastControl, mostControl),
		peers:     share(32, leastPeers, mostPeers),
		strangers: share(16, leastStrangers, mostStrangers),
	}
	own := ownFiles
	if etcdInside {
		own += etcdFiles
	}
	f.links = limit - own - f.ops - f.control - f.peers - f.strangers
	if f.links < leastLinks {
		least := own + leastOps + leastControl + leastPeers + leastStrangers + leastLinks
		return f, fmt.Errorf("the limit of file descriptors is %d (ulimit -n), want at least %d: "+
			"a hub needs %d itself, %d for operations, %d for backends, %d for other hubs, "+
			"%d for clients that have not connected yet, and one for each client",
			limit, least, own, leastOps, leastControl, leastPeers, leastStrangers)
	}
	return f, nil
}

// sharesAttribute returns the shares for a log.
func (f files) sharesAttribute() slog.Attr {
	return slog.Group("files", slog.Int("limit", f.limit), slog.Int("clients", f.links),
		slog.Int("strangers", f.strangers),
		slog.Int("control", f.control), slog.Int("peers", f.peers), slog.Int("ops", f.ops))
}

// registerMetrics registers the shares as metrics.
func (f files) registerMetrics(r prometheus.Registerer) {
	shares := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "connhub_files_limit",
		Help: "File descriptors that each use may have at most; process_max_fds is their sum " +
			"with those of the hub itself.",
	}, []string{"use"})
	r.MustRegister(shares)
	for use, n := range map[string]int{
		"clients": f.links, "strangers": f.strangers, "control": f.control, "peers": f.peers,
		"ops": f.ops,
	} {
		shares.WithLabelValues(use).Set(float64(n))
	}
}

// planFiles shares out the file descriptors of this process.
func (p *serverPlan) planFiles() error {
	limit, err := fileLimit()
	if err != nil {
		return fmt.Errorf("the limit of file descriptors: %w", err)
	}
	if p.files, err = shareFiles(limit, p.cluster != nil && p.cluster.embedded != nil); err != nil {
		return err
	}
	p.edge.MaxLinks, p.edge.MaxStrangers = p.files.links, p.files.strangers
	return nil
}

// logFiles logs the shares of the file descriptors. The line is a WARN with a problem if they allow
// fewer clients than a --max-connections that the operator gave. The default is for large machines:
// a machine with fewer files is no problem.
func (p *serverPlan) logFiles(logger *slog.Logger) {
	if !p.maxConnectionsGiven || p.files.links >= p.hub.MaxConnections {
		logger.Info("file descriptors", p.files.sharesAttribute())
		return
	}
	logger.Warn("file descriptors", p.files.sharesAttribute(),
		slog.Int("max_connections", p.hub.MaxConnections),
		slog.String("problem", "the limit of file "+
			"descriptors (ulimit -n) allows fewer clients at once than --max-connections"))
}
