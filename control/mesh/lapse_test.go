package mesh

import (
	"fmt"
	"testing"
	"time"

	"github.com/connhub/connhub/hub"
)

// TestALapseIsToldUntilTheHubKnows: also when the hub is forgotten once more before it was told.
// Time for which sends said that etcd was silent is no lapse.
func TestALapseIsToldUntilTheHubKnows(t *testing.T) {
	var l lapses
	l.end("B", time.Hour) // was never forgotten
	l.begin("B", 10*time.Second)
	if l.silent("B") {
		t.Error("silent before its end")
	}
	l.end("B", 9*time.Second)
	if l.silent("B") {
		t.Error("sends have said that etcd is silent, all the time")
	}
	l.begin("B", 20*time.Second)
	l.end("B", 21*time.Second)
	l.begin("B", 30*time.Second)
	l.end("B", 29*time.Second)
	if !l.silent("B") {
		t.Error("the one before is forgotten")
	}
	l.clear("B")
	l.clear("B")
	if l.silent("B") || len(l.of) > 0 || len(l.order) > 0 {
		t.Errorf("after it was told: %+v", l)
	}
}

// TestLapsesAreBounded: the oldest go first.
func TestLapsesAreBounded(t *testing.T) {
	var l lapses
	for i := range maxLapses + 10 {
		id := hub.ID(fmt.Sprint(i))
		l.begin(id, time.Duration(i))
		l.end(id, time.Duration(i+1))
	}
	if len(l.of) != maxLapses || len(l.order) != maxLapses || l.silent("9") || !l.silent("10") {
		t.Errorf("%d and %d are kept", len(l.of), len(l.order))
	}
}
