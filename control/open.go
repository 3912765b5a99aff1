package control

import (
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// openBounds bounds a method that needs no credential. Every field must be set.
type openBounds struct {
	bytes int           // of the request message; a longer message is refused before it is read
	time  time.Duration // from the headers to the answer; then the call ends with DEADLINE_EXCEEDED
	calls int           // in flight on a connection; more get RESOURCE_EXHAUSTED
}

// openMethods are the methods that need no credential. Kubernetes probes with Check, and has no
// secret. Watch has no row, because a stranger could hold any number of streams. A test checks that
// a method without a row needs a credential.
var openMethods = map[string]openBounds{
	healthv1.Health_Check_FullMethodName: {bytes: 4 << 10, time: 3 * time.Second, calls: 16},
}

// isOpen reports whether a method needs no credential.
func isOpen(fullMethod string) bool {
	_, open := openMethods[fullMethod]
	return open
}
