package discovery

import (
	"errors"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/connhub/connhub/internal/repeats"
)

// causeInterval is the least time between two log lines about the same cause.
const causeInterval = time.Minute

// causes decides which failures of one outage are logged: each cause when it is new, and one that comes again at most each
// causeInterval, with a count. The zero value is ready to use.
type causes struct{ counter repeats.Counter[string] }

// note counts a failure, and reports whether it is to be logged, and how many of its cause were not since the last line.
func (c *causes) note(err error) (unsaid int, say bool) {
	return c.counter.Note(causeOf(err), causeInterval)
}

// any reports whether a failure was noted.
func (c *causes) any() bool { return c.counter.Any() }

func (c *causes) clear() { c.counter.Reset() }

// causeOf tells causes apart: what etcd says by its text, and what the network says by its kind, because that has ports and
// the words of the moment in it.
func causeOf(err error) string {
	if said, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return said.Error()
	}
	kind := lossOf(err).String()
	if strings.Contains(err.Error(), "authentication handshake failed") { // gRPC has only a text for TLS that fails
		kind += "_handshake"
	}
	return kind
}

// outdated reports whether etcd refused a token that was good and has run out, or that is older than etcd's last change of
// users. The next try logs in anew.
func outdated(err error) bool {
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrAuthOldRevision)
}
