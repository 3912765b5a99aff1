package port

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	backendSecret = "backend-backend-backend-backend-backend"
	peerSecret    = "peer-peer-peer-peer-peer-peer-peer-peer"
)

func newSecrets(t testing.TB) *auth.Secrets {
	t.Helper()
	files := map[auth.Role][]string{}
	for role, secret := range map[auth.Role]string{
		auth.RoleBackend: backendSecret, auth.RolePeer: peerSecret,
	} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		files[role] = []string{path}
	}
	secrets, err := auth.LoadSecrets(files)
	if err != nil {
		t.Fatal(err)
	}
	return secrets
}

func slogTo(b *testkit.LockedBuffer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(b, nil))
}
