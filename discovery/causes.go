package discovery

import (
	"errors"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/connhub/connhub/internal/repeats"
)

// causeInterval is the least time between two log lines for the same cause.
const causeInterval = time.Minute

// causes selects the failures of an outage that are logged. A new cause is logged at once. A
// repeated cause is logged at most once in causeInterval, with the count of the failures in
// between. The zero value is ready to use.
type causes struct{ counter repeats.Counter[string] }

// countFailure counts a failure and reports whether to log it. unlogged is the number of failures
// of the same cause since its last line.
func (c *causes) countFailure(err error) (unlogged int, logIt bool) {
	return c.counter.Note(causeOf(err), causeInterval)
}

// hasFailures reports whether a failure was counted since the last reset.
func (c *causes) hasFailures() bool { return c.counter.Any() }

func (c *causes) reset() { c.counter.Reset() }

// causeOf returns the cause of an error: the text for an error of etcd, the kind for an error of
// the network, whose text has changing details such as ports.
func causeOf(err error) string {
	if fromEtcd, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return fromEtcd.Error()
	}
	kind := lossOf(err).String()
	// gRPC reports a failed TLS handshake only by this text.
	if strings.Contains(err.Error(), "authentication handshake failed") {
		kind += "_handshake"
	}
	return kind
}

// isOutdatedToken reports whether etcd refused a token because it has expired or is older than
// etcd's last change of users. The next attempt logs in again.
func isOutdatedToken(err error) bool {
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) ||
		errors.Is(err, rpctypes.ErrAuthOldRevision)
}
