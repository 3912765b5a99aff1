package port

import (
	"log/slog"
	"testing"

	"go.uber.org/goleak"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/auth/authtest"
	"github.com/connhub/connhub/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	backendSecret = "backend-backend-backend-backend-backend"
	peerSecret    = "peer-peer-peer-peer-peer-peer-peer-peer"
)

func newSecrets(t testing.TB) *auth.Secrets {
	t.Helper()
	return authtest.NewSecrets(t, map[auth.Role]string{
		auth.RoleBackend: backendSecret, auth.RolePeer: peerSecret,
	})
}

func slogTo(b *testkit.LockedBuffer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(b, nil))
}
