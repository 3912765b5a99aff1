package core

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/internal/testkit"
)

// spread returns hashes in all buckets.
func spread(i int) Hash { return HashOf(KindGroup, "default", fmt.Sprint(i)) }

// holdsAll compares a table with the hashes that it must hold.
func holdsAll(n *interest, f *filter) error {
	all, _, _ := n.snapshotPage(0, n.len+1)
	if f.table.len != len(all) {
		return fmt.Errorf("the table has %d hashes, want %d", f.table.len, len(all))
	}
	for _, h := range all {
		if !f.table.hasHash(h) {
			return fmt.Errorf("the table lacks %x", h)
		}
	}
	return nil
}

// TestAPeerThatIsFarBehindGetsANewSnapshot: it loses its old table. While the snapshot lasts it
// can't filter, although its lease runs.
func TestAPeerThatIsFarBehindGetsANewSnapshot(t *testing.T) {
	var n interest
	var f filter
	feed := newFeed(&n)
	apply := func(all []*peerv1.Interest) {
		t.Helper()
		for _, m := range all {
			if err := f.applyInterest(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 100 {
		n.addReference(spread(i))
	}
	apply(feed.nextMessages(&n))
	feed.confirmSequence(feed.sequence)
	now := time.Second
	p := f.nextProbe(now)
	err := f.applyAnswer(now, &peerv1.ProbeAnswer{
		Number: p.GetNumber(), InterestVersion: n.version,
	})
	if err != nil {
		t.Fatal(err)
	}
	if !f.holdsLease(now) || holdsAll(&n, &f) != nil {
		t.Fatalf("no lease, or %v", holdsAll(&n, &f))
	}

	for i := range 100 {
		n.removeReference(now, spread(i))
	}
	n.removeFaded(now + 2*lingerTime)
	for i := range 3 * logLimit {
		n.addReference(spread(1000 + i))
	}
	if _, ok := n.changesSince(feed.version, 1); ok || len(n.log) > 2*logLimit {
		t.Fatalf("the log has %d changes", len(n.log))
	}
	news := feed.nextMessages(&n)
	if len(news) != feedWindow || !news[0].GetSnapshotStart() {
		t.Fatalf("%d messages, the first starts a snapshot: %t", len(news),
			news[0].GetSnapshotStart())
	}
	apply(news[:1])
	if f.holdsLease(now) {
		t.Error("filters by half a snapshot")
	}
	apply(news[1:])
	for len(news) > 0 {
		feed.confirmSequence(feed.sequence)
		news = feed.nextMessages(&n)
		apply(news)
	}
	if err := holdsAll(&n, &f); err != nil || !f.holdsLease(now) {
		t.Errorf("at the end: lease %t, %v", f.holdsLease(now), err)
	}
}

// TestATableIsWhatItsHubHas: hashes come and go, also during a snapshot, and messages and
// confirmations take their time. At the end the table is right, and at any time it has all
// confirmed hashes.
func TestATableIsWhatItsHubHas(t *testing.T) {
	testkit.SetChecksUnderRace(t, 15)
	rapid.Check(t, func(rt *rapid.T) {
		var n interest
		var f filter
		held := map[Hash]int{}
		for i := range rapid.SampledFrom([]int{0, 10, MaxHashes + 1000}).Draw(rt, "before") {
			n.addReference(spread(i))
			held[spread(i)]++
		}
		feed := newFeed(&n)
		var now time.Duration
		var wire []*peerv1.Interest
		hash := func() Hash { return spread(rapid.IntRange(0, 30).Draw(rt, "hash")) }
		deliver := func() {
			m := wire[0]
			wire = wire[1:]
			if len(m.GetAdded())+len(m.GetRemoved()) > MaxHashes || m.GetSequence() <= f.sequence {
				rt.Fatalf("message %d with %d hashes", m.GetSequence(),
					len(m.GetAdded())+len(m.GetRemoved()))
			}
			if err := f.applyInterest(m); err != nil {
				rt.Fatal(err)
			}
			if version, ok := feed.confirmSequence(m.GetSequence()); !ok || version != f.version {
				rt.Fatalf("confirmed version %d, has %d", version, f.version)
			}
		}
		rt.Repeat(map[string]func(*rapid.T){
			"add": func(*rapid.T) {
				h := hash()
				n.addReference(h)
				held[h]++
			},
			"remove": func(*rapid.T) {
				if h := hash(); n.removeReference(now, h) != (held[h] > 0) {
					rt.Fatalf("remove of %d", held[h])
				} else if held[h] > 0 {
					held[h]--
				}
			},
			"time": func(*rapid.T) {
				now += time.Duration(rapid.Int64Range(0, int64(2*lingerTime)).Draw(rt, "time"))
				n.removeFaded(now)
			},
			"pump": func(*rapid.T) { wire = append(wire, feed.nextMessages(&n)...) },
			"deliver": func(*rapid.T) {
				if len(wire) > 0 {
					deliver()
				}
			},
			"": func(*rapid.T) {
				for h, count := range held {
					if e := (*n.bucketOf(h))[h]; count > 0 && int(e.references) != count {
						rt.Fatalf("%d references, want %d", e.references, count)
					} else if count > 0 && f.complete && f.version >= e.version &&
						!f.table.hasHash(h) {
						rt.Fatalf("%x is confirmed and not in the table", h)
					}
				}
			},
		})
		wire = append(wire, feed.nextMessages(&n)...)
		for ; len(wire) > 0; wire = append(wire, feed.nextMessages(&n)...) {
			deliver()
		}
		if err := holdsAll(&n, &f); err != nil || !f.complete || f.version != n.version {
			rt.Fatalf("complete %t, version %d of %d: %v", f.complete, f.version, n.version, err)
		}
	})
}

// TestAConfirmationCountsOnce: a repeated confirmation says nothing about later messages.
func TestAConfirmationCountsOnce(t *testing.T) {
	var n interest
	feed := newFeed(&n)
	feed.nextMessages(&n)
	feed.confirmSequence(1)
	n.addReference(spread(1))
	feed.nextMessages(&n)
	for _, sequence := range []uint64{0, 1} {
		if version, ok := feed.confirmSequence(sequence); version != 0 || !ok {
			t.Errorf("confirmation of %d: version %d, %t", sequence, version, ok)
		}
	}
	if version, ok := feed.confirmSequence(2); version != 1 || !ok {
		t.Errorf("version %d, %t", version, ok)
	}
}

// TestASnapshotGoesOnWhileNamesChange: if changes always came first, a change between two
// confirmations would starve the snapshot.
func TestASnapshotGoesOnWhileNamesChange(t *testing.T) {
	var n interest
	for i := range 10 * MaxHashes {
		n.addReference(spread(i))
	}
	feed := newFeed(&n)
	var f filter
	for i := range 100 {
		n.addReference(spread(1_000_000 + i))
		for _, m := range feed.nextMessages(&n) {
			if err := f.applyInterest(m); err != nil {
				t.Fatal(err)
			}
		}
		if f.complete {
			if err := holdsAll(&n, &f); err != nil {
				t.Error(err)
			}
			return
		}
		feed.confirmSequence(feed.sequence - min(feed.sequence, 1)) // all but the latest
	}
	t.Error("the snapshot is not complete")
}
