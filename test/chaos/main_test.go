package chaos

import (
	"flag"
	"testing"

	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/etcd"
)

var (
	firstSeed = flag.Uint64("seed", 1, "the first seed")
	seedCount = flag.Int("seeds", 3, "how many seeds to run")
)

// TestMain plays the members of etcd too.
func TestMain(m *testing.M) {
	bed.Main(m, map[string]func() error{etcd.Role: etcd.Serve})
}
