package core

import (
	"fmt"
	"testing"
	"time"

	"github.com/connhub/connhub/hub"
)

// TestALapseIsToldUntilTheHubKnows, also if the hub is forgotten again before it was told. Time for
// which sends reported a silent etcd is no lapse.
func TestALapseIsToldUntilTheHubKnows(t *testing.T) {
	var l lapses
	l.noteCounted("B", time.Hour) // B was never forgotten
	l.noteForgotten("B", 10*time.Second)
	if l.missedSilently("B") {
		t.Error("silent before its end")
	}
	l.noteCounted("B", 9*time.Second)
	if l.missedSilently("B") {
		t.Error("sends have said that etcd is silent, all the time")
	}
	l.noteForgotten("B", 20*time.Second)
	l.noteCounted("B", 21*time.Second)
	l.noteForgotten("B", 30*time.Second)
	l.noteCounted("B", 29*time.Second)
	if !l.missedSilently("B") {
		t.Error("the one before is forgotten")
	}
	l.clearLapse("B")
	l.clearLapse("B")
	if l.missedSilently("B") || len(l.of) > 0 || len(l.order) > 0 {
		t.Errorf("after it was told: %+v", l)
	}
}

// TestLapsesAreBounded: the oldest go first.
func TestLapsesAreBounded(t *testing.T) {
	var l lapses
	for i := range maxLapses + 10 {
		id := hub.ID(fmt.Sprint(i))
		l.noteForgotten(id, time.Duration(i))
		l.noteCounted(id, time.Duration(i+1))
	}
	if len(l.of) != maxLapses || len(l.order) != maxLapses || l.missedSilently("9") ||
		!l.missedSilently("10") {
		t.Errorf("%d and %d are kept", len(l.of), len(l.order))
	}
}
