package limits

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

// Files are the shares of the process's file descriptors, so that no use of them starves another.
type Files struct {
	limit int // of the process (RLIMIT_NOFILE)

	Ops       int // connections of the operations port
	Control   int // connections of the control port
	Strangers int // connections of the clients' port that are no clients yet
	Links     int // sockets of clients
	peers     int // connections to other hubs
}

// ShareFiles shares out limit file descriptors. It returns an error if there are too few to run a
// hub.
func ShareFiles(limit int, etcdInside bool) (Files, error) {
	share := func(part, least, most int) int { return min(max(limit/part, least), most) }
	f := Files{
		limit:     limit,
		Ops:       share(32, leastOps, mostOps),
		Control:   share(16, leastControl, mostControl),
		peers:     share(32, leastPeers, mostPeers),
		Strangers: share(16, leastStrangers, mostStrangers),
	}
	own := ownFiles
	if etcdInside {
		own += etcdFiles
	}
	f.Links = limit - own - f.Ops - f.Control - f.peers - f.Strangers
	if f.Links < leastLinks {
		least := own + leastOps + leastControl + leastPeers + leastStrangers + leastLinks
		return f, fmt.Errorf("the limit of file descriptors is %d (ulimit -n), want at least %d: "+
			"a hub needs %d itself, %d for operations, %d for backends, %d for other hubs, "+
			"%d for clients that have not connected yet, and one for each client",
			limit, least, own, leastOps, leastControl, leastPeers, leastStrangers)
	}
	return f, nil
}

// sharesAttribute returns the shares for a log.
func (f Files) sharesAttribute() slog.Attr {
	return slog.Group("files", slog.Int("limit", f.limit), slog.Int("clients", f.Links),
		slog.Int("strangers", f.Strangers),
		slog.Int("control", f.Control), slog.Int("peers", f.peers), slog.Int("ops", f.Ops))
}

// RegisterMetrics registers the shares as metrics.
func (f Files) RegisterMetrics(r prometheus.Registerer) {
	shares := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "connhub_files_limit",
		Help: "File descriptors that each use may have at most; process_max_fds is their sum " +
			"with those of the hub itself.",
	}, []string{"use"})
	r.MustRegister(shares)
	for use, n := range map[string]int{
		"clients": f.Links, "strangers": f.Strangers, "control": f.Control, "peers": f.peers,
		"ops": f.Ops,
	} {
		shares.WithLabelValues(use).Set(float64(n))
	}
}

// LogShares logs the shares. The line is a WARN with a problem if they allow fewer clients than
// wanted, the --max-connections that the operator gave; 0: none was given. The default of that flag
// is for large machines: a machine with fewer files is no problem.
func (f Files) LogShares(logger *slog.Logger, wanted int) {
	if f.Links >= wanted {
		logger.Info("file descriptors", f.sharesAttribute())
		return
	}
	logger.Warn("file descriptors", f.sharesAttribute(),
		slog.Int("max_connections", wanted),
		slog.String("problem", "the limit of file "+
			"descriptors (ulimit -n) allows fewer clients at once than --max-connections"))
}
