package port

import (
	"time"

	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
)

// OpenBounds bounds a method that needs no credential. Every field must be set.
type OpenBounds struct {
	Bytes int           // of the request message; a longer message is refused before it is read
	Time  time.Duration // from the headers to the answer; then the call ends with DEADLINE_EXCEEDED
	Calls int           // in flight on a connection; more get RESOURCE_EXHAUSTED
}

// OpenMethods are the methods that need no credential. Kubernetes probes with Check, and has no
// secret. Watch has no row, because a stranger could hold any number of streams. A test checks that
// a method without a row needs a credential.
var OpenMethods = map[string]OpenBounds{
	healthv1.Health_Check_FullMethodName: {Bytes: 4 << 10, Time: 3 * time.Second, Calls: 16},
}

// isOpen reports whether a method needs no credential.
func isOpen(fullMethod string) bool {
	_, open := OpenMethods[fullMethod]
	return open
}
