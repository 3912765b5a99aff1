package test

import (
	"testing"

	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

// TestCluster proves the promises of three healthy hubs, and the promises that hold when a hub
// hangs or is killed.
func TestCluster(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3})
	t.Run("many sends come exactly once", func(t *testing.T) {
		c.sendMany(t, tally.ManyMembers, tally.ManyUsers, bed.Either(800, sends))
	})
	t.Run("sends go only where somebody is", c.countForwards)
	t.Run("a join that has returned is seen everywhere", func(t *testing.T) {
		c.readYourWrites(t, bed.Either(500, 10_000))
	})
	t.Run("pages have everything once", func(t *testing.T) { c.listPages(t, bed.Either(15, 150)) })
	t.Run("large deliveries delay no probes", c.deliverLarge)
	t.Run("a hub that hangs blocks nobody else", func(t *testing.T) {
		c.hangOne(t, bed.Either(600, 10_000))
	})
	// the last test, because it kills the first hub
	t.Run("a retry after a kill is safe", func(t *testing.T) {
		c.killAndRetry(t, bed.Either(80, 1000))
	})
}

// TestClusterWithBadLinks proves the promises that hold when the links between hubs are cut, and
// when only probes pass.
func TestClusterWithBadLinks(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3, relayed: true})
	t.Run("a stream keeps its order", func(t *testing.T) { c.keepOrder(t, bed.Either(3, 24)) })
	t.Run("a stuck data path blocks nobody else", c.stickData)
}

// TestClusterWithCollidingHashes: with hashes of 8 bits almost every name collides with others, so
// peers forward messages to hubs without members for them. Nothing else changes.
func TestClusterWithCollidingHashes(t *testing.T) {
	t.Parallel()
	c := openCluster(t, plan{hubs: 3, hashBits: 8, relayed: true})
	t.Run("many sends come exactly once", func(t *testing.T) {
		many, users := bed.Either(300, tally.ManyMembers), bed.Either(100, tally.ManyUsers)
		c.sendMany(t, many, users, bed.Either(400, sends))
	})
	t.Run("a join that has returned is seen everywhere", func(t *testing.T) {
		c.readYourWrites(t, bed.Either(300, 10_000))
	})
	t.Run("pages have everything once", func(t *testing.T) { c.listPages(t, bed.Either(5, 150)) })
	t.Run("a stream keeps its order", func(t *testing.T) { c.keepOrder(t, bed.Either(2, 24)) })
	t.Run("a hub that hangs blocks nobody else", func(t *testing.T) {
		c.hangOne(t, bed.Either(200, 10_000))
	})
	t.Run("a retry after a kill is safe", func(t *testing.T) {
		c.killAndRetry(t, bed.Either(40, 1000))
	})
}
