package cluster

import (
	"slices"
	"testing"
	"time"
)

// visits are the times at which travellers came back, by the address of the hub.
type visits map[string][]time.Time

func (j *journey) noteVisit(address string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.visits[address] = append(j.visits[address], time.Now())
}

// busiestSecond returns the most visits of a hub within a second.
func (all visits) busiestSecond() (most int) {
	for _, times := range all {
		slices.SortFunc(times, time.Time.Compare)
		first := 0
		for i, at := range times {
			for at.Sub(times[first]) >= time.Second {
				first++
			}
			most = max(most, i-first+1)
		}
	}
	return most
}

// faults are the messages that did not come as they must.
type faults struct{ messages, lost, doubled, reordered int }

// compare counts the faults of the messages that a sender has sent to a traveller.
func (f *faults) compare(t *testing.T, v *traveller, sender string, want []int) {
	t.Helper()
	got := v.got[sender]
	f.messages += len(want)
	if slices.Equal(got, want) {
		return
	}
	t.Errorf("%s has %d messages of %s, want %d:\n%v\n%v", v.user, len(got), sender, len(want),
		got, want)
	seen := map[int]int{}
	last := -1
	for _, number := range got {
		seen[number]++
		if number < last {
			f.reordered++
		}
		last = max(last, number)
	}
	for _, number := range want {
		if count := seen[number]; count > 0 {
			f.doubled += count - 1
		} else {
			f.lost++
		}
	}
}

// report tells the figures of a journey that is over.
func (j *journey) report(t *testing.T, f *faults) {
	t.Helper()
	var gaps []time.Duration
	var oldest time.Duration
	published, again := 0, 0
	for _, v := range j.travellers {
		gaps = append(gaps, v.gaps...)
		oldest = max(oldest, v.oldest)
		published, again = published+v.published, again+v.again
	}
	sends := 0
	for _, targets := range j.sent {
		sends += len(targets)
	}
	slices.Sort(gaps)
	t.Logf("%d sends, and %d messages that clients published, %d of them again: %d deliveries in "+
		"%v; lost %d, doubled %d, out of order %d, disconnected events %d; %d receipts lack the "+
		"part of a hub that came or went", sends, published, again, f.messages,
		time.Since(j.began).Round(time.Second), f.lost, f.doubled, f.reordered, len(j.ended),
		j.uncounted.Load())
	if len(gaps) == 0 {
		t.Error("no traveller came back")
		return
	}
	t.Logf("%d travellers came back %d times, without a link for %v (median), p99 %v, at most %v; "+
		"a message took at most %v", len(j.travellers), len(gaps), percentile(gaps, 50),
		percentile(gaps, 99), gaps[len(gaps)-1], oldest)
	busiest := j.visits.busiestSecond()
	t.Logf("at most %d of them came to a hub within a second; its connect rate is %d, and %d "+
		"handshakes were held for it, %d refused", busiest, deployConnectRate, j.held, j.refused)
	if *restarts > 0 && busiest > deployConnectRate {
		t.Errorf("%d clients came to a hub within a second, want at most %d",
			busiest, deployConnectRate)
	}
}
