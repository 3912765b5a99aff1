package port

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/auth"
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

// buffer collects a log.
type buffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func slogTo(b *buffer) *slog.Logger { return slog.New(slog.NewJSONHandler(b, nil)) }

// holdError fails unless err has a code and a reason of the API.
func holdError(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("have %v, want %v", err, code)
	}
	for _, detail := range status.Convert(err).Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if ok && info.GetReason() == reason && info.GetDomain() == "connhub" {
			return
		}
	}
	t.Errorf("have %v, want the reason %q", err, reason)
}
