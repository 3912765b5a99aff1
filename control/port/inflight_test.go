package port

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestALeavingServerIsQuietWhenTheLastCallHasEnded(t *testing.T) {
	f := newInFlight()
	f.beginCall(nil)
	f.beginCall(nil)
	f.endCall(nil)
	f.refuseCalls()
	if isClosed(f.quiet) {
		t.Error("quiet with a call in flight")
	}
	f.endCall(nil)
	if !isClosed(f.quiet) {
		t.Error("not quiet without a call")
	}
	f.beginCall(nil) // it came while the listeners closed
	f.endCall(nil)
	idle := newInFlight()
	idle.beginCall(nil)
	idle.endCall(nil)
	if isClosed(idle.quiet) {
		t.Error("quiet before it leaves")
	}
	idle.refuseCalls()
	if !isClosed(idle.quiet) {
		t.Error("not quiet, with nothing in flight")
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// statusStream keeps the statuses that it is ended with.
type statusStream struct {
	transportStream
	statuses []codes.Code
}

func (s *statusStream) WriteStatus(st *status.Status) error {
	s.statuses = append(s.statuses, st.Code())
	return nil
}

func TestALeavingServerEndsOnlyCallsThatWaitForTheirMessage(t *testing.T) {
	f := newInFlight()
	waits, carriedOut, late := &statusStream{}, &statusStream{}, &statusStream{}
	waiting, busy := &grpcCall{stream: waits}, &grpcCall{stream: carriedOut}
	newcomer := &grpcCall{stream: late}
	for _, c := range []*grpcCall{waiting, busy} {
		f.beginCall(c)
		f.beginReading(c)
	}
	if !f.endReading(busy) {
		t.Error("a call was ended before the server leaves")
	}
	f.refuseCalls()
	f.beginCall(newcomer)
	f.beginReading(newcomer)
	f.refuseCalls() // as Shutdown after Leave
	if f.endReading(waiting) || f.endReading(newcomer) {
		t.Error("a call that was ended may be carried out")
	}
	for name, s := range map[string]*statusStream{"waiting": waits, "late": late} {
		if !slices.Equal(s.statuses, []codes.Code{codes.Unavailable}) {
			t.Errorf("%s: ended with %v, want Unavailable once", name, s.statuses)
		}
	}
	if len(carriedOut.statuses) > 0 {
		t.Errorf("a call that is carried out was ended with %v", carriedOut.statuses)
	}
}
