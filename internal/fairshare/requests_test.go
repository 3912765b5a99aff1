package fairshare

import (
	"fmt"
	"testing"
)

// A caller that makes more request ids than are remembered has its own forgotten, and no more.
func TestACallerThatFloodsRequestIDsForgetsItsOwn(t *testing.T) {
	const most = 100
	r := NewRequests[int](most)
	begin := func(namespace, caller, id string) bool {
		return beginRequest(t, r, namespace, caller, id)
	}
	begin("default", "quiet", "1")
	begin("other", "flood", "1") // of the same name, but in a namespace that has little
	for i := range 20 * most {
		begin("default", "flood", fmt.Sprint(i))
		if len(r.byKey) > most || len(r.oldest) > 2*most+1 || r.callers.Len() != len(r.byKey) {
			t.Fatalf("%d remembered, in a list of %d", len(r.byKey), len(r.oldest))
		}
	}
	if !begin("default", "quiet", "1") || !begin("other", "flood", "1") {
		t.Error("a request id was forgotten for another caller's")
	}
	if begin("default", "flood", "0") || !begin("default", "flood", fmt.Sprint(20*most-1)) {
		t.Error("the caller that floods has its oldest forgotten, and not its newest")
	}
}

// A caller chooses the namespaces that it sends to. A caller that sends a single request id into
// each of many is still the largest caller.
func TestACallerThatFloodsNamespacesForgetsItsOwnRequestIDs(t *testing.T) {
	const most = 100
	r := NewRequests[int](most)
	for i := range 3 {
		if beginRequest(t, r, "tenant", "quiet", fmt.Sprint(i)) {
			t.Fatal("a request id is known that is new")
		}
	}
	for i := range 3 * most {
		beginRequest(t, r, fmt.Sprint("flood-", i), "flood", "1")
	}
	for i := range 3 {
		if !beginRequest(t, r, "tenant", "quiet", fmt.Sprint(i)) {
			t.Errorf("request id %d was forgotten for another caller's", i)
		}
	}
}

// beginRequest reports whether the request id was known.
func beginRequest(t *testing.T, r *Requests[int], namespace, caller, id string) bool {
	t.Helper()
	_, known, _ := r.Begin(Request{Namespace: namespace, Caller: caller, ID: id}, 0)
	return known
}

func TestRequestMemoryIsBounded(t *testing.T) {
	const most = 100
	r := NewRequests[int](most)
	for i := range most + 10 {
		if _, known, _ := r.Begin(Request{ID: fmt.Sprint(i)}, i); known {
			t.Fatalf("request id %d is known", i)
		}
	}
	if len(r.byKey) != most || r.Evictions() != 10 {
		t.Errorf("%d remembered, %d evicted", len(r.byKey), r.Evictions())
	}
}
