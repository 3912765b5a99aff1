package test

import "testing"

// TestCluster proves what three hubs promise while all is well, and when one of them hangs or is killed.
func TestCluster(t *testing.T) {
	c := openCluster(t, plan{hubs: 3})
	t.Run("many sends come exactly once", func(t *testing.T) { c.sendMany(t, manyMembers, manyUsers, either(800, sends)) })
	t.Run("sends go only where somebody is", c.countForwards)
	t.Run("a join that has returned is seen everywhere", func(t *testing.T) { c.readYourWrites(t, either(1000, 10_000)) })
	t.Run("pages have everything once", c.listPages)
	t.Run("large deliveries delay no probes", c.deliverLarge)
	t.Run("a hub that hangs blocks nobody else", c.hangOne)
	t.Run("a retry after a kill is safe", c.killAndRetry) // the last: it takes the first hub with it
}

// TestClusterWithCollidingHashes: with hashes of 8 bits almost every name is taken for others, so that hubs are sent what
// they have nobody for; nothing else changes.
func TestClusterWithCollidingHashes(t *testing.T) {
	c := openCluster(t, plan{hubs: 3, hashBits: 8})
	t.Run("many sends come exactly once", func(t *testing.T) {
		c.sendMany(t, either(300, manyMembers), either(100, manyUsers), either(400, sends))
	})
	t.Run("a join that has returned is seen everywhere", func(t *testing.T) { c.readYourWrites(t, either(300, 10_000)) })
}
