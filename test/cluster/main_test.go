package cluster

import (
	"testing"

	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/etcd"
)

// TestMain plays these roles too.
func TestMain(m *testing.M) {
	bed.Main(m, map[string]func() error{
		etcd.Role: etcd.Serve, crowdRole: serveCrowd, exileRole: serveExiles,
	})
}
