package core

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkInterest adds and removes a reference among 100,000 hashes. A hash with further
// references is the usual case, and no peer hears of it. A new hash fades, and each peer is told
// twice. A peer confirms at once.
func BenchmarkInterest(b *testing.B) {
	for _, fresh := range []bool{false, true} {
		for _, peers := range []int{0, 2} {
			b.Run(fmt.Sprintf("new=%t/peers=%d", fresh, peers), func(b *testing.B) {
				benchmarkInterest(b, fresh, peers)
			})
		}
	}
}

func benchmarkInterest(b *testing.B, fresh bool, peers int) {
	const hashes = 100_000
	var n interest
	known := make([]Hash, hashes)
	for i := range known {
		known[i] = spread(i)
		n.addReference(known[i])
	}
	feeds := make([]*feed, peers)
	tell := func() {
		for _, f := range feeds {
			for len(f.nextMessages(&n)) > 0 {
				f.confirmSequence(f.sequence)
			}
		}
	}
	for i := range feeds {
		feeds[i] = newFeed(&n)
	}
	tell()
	now := time.Duration(0)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		h := known[i%hashes]
		if fresh {
			h = ^h
		}
		before := n.version
		n.addReference(h)
		if n.version != before {
			tell()
		}
		n.removeReference(now, h)
		now += 2 * lingerTime
		if n.removeFaded(now); n.version != before {
			tell()
		}
	}
}
