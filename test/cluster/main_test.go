package cluster

import (
	"testing"

	"github.com/connhub/connhub/test/bed"
)

// TestMain plays these roles too.
func TestMain(m *testing.M) {
	bed.Main(m, map[string]func() error{etcdRole: serveEtcd, crowdRole: serveCrowd})
}
