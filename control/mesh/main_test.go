package mesh

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/connhub/connhub/control/mesh/core"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func helloOf(id, expected string, epoch uint64) *peerv1.Hello {
	return &peerv1.Hello{
		Self:     &peerv1.Identity{Cluster: "c", Hub: id},
		Expected: &peerv1.Identity{Cluster: "c", Hub: expected}, Epoch: epoch,
		ProtocolMin: core.ProtocolMin, ProtocolMax: core.ProtocolMax, Address: id + ":1", Lanes: 1,
	}
}
