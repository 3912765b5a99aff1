package discovery

import (
	"errors"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

const (
	// causeInterval is the least time between two log lines about the same cause.
	causeInterval = time.Minute
	// causesKept bounds the causes of one outage that are told apart; etcd has some dozens of texts. Then all are new again.
	causesKept = 64
)

// causes decides which failures of one outage are logged: each cause when it is new, and one that comes again at most each
// causeInterval, with a count. It belongs to one goroutine. The zero value is ready to use.
type causes struct{ seen map[string]*cause }

// cause is one kind of failure.
type cause struct {
	said   time.Time // when it was logged
	unsaid int       // failures since
}

// note counts a failure, and reports whether it is to be logged, and how many of its cause were not since the last line.
func (c *causes) note(err error) (unsaid int, say bool) {
	if c.seen == nil || len(c.seen) >= causesKept {
		c.seen = make(map[string]*cause)
	}
	kind := causeOf(err)
	k := c.seen[kind]
	if k == nil {
		c.seen[kind] = &cause{said: time.Now()}
		return 0, true
	}
	k.unsaid++
	if time.Since(k.said) < causeInterval {
		return 0, false
	}
	unsaid = k.unsaid
	k.said, k.unsaid = time.Now(), 0
	return unsaid, true
}

// any reports whether a failure was noted.
func (c *causes) any() bool { return len(c.seen) > 0 }

func (c *causes) clear() { c.seen = nil }

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
