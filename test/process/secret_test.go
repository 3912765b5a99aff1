package process

import (
	"strings"
	"testing"

	"github.com/connhub/connhub/discovery/embedded/etcdtest"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

func TestAPeerSecretWithoutTLSIsWarnedOf(t *testing.T) {
	t.Parallel()
	cert, key := testkit.WriteCertificate(t, t.TempDir(), "hub")
	args := []string{
		"serve", "--listen-clients=127.0.0.1:0", "--listen-control=127.0.0.1:0",
		"--listen-ops=127.0.0.1:0", "--etcd-endpoints=" + newDoor(t).address(),
		"--public-url=https://hub.example",
		"--token-key-file=" + testkit.WriteFile(t, "k", testkit.SomeKey),
		"--backend-secret-file=" + testkit.WriteFile(t, "b", testkit.SomeSecret+"\n"),
		"--peer-secret-file=" + testkit.WriteFile(t, "p",
			"peer-secret-0123456789-0123456789-0123\n"),
	}
	const warning = "--peer-secret-file in plain text"
	if p := bed.StartBound(t, args...); !strings.Contains(p.Log.String(), warning) {
		t.Errorf("no warning in %s", p.Log)
	}
	args = append(args, "--control-tls-cert-file="+cert, "--control-tls-key-file="+key)
	if p := bed.StartBound(t, args...); strings.Contains(p.Log.String(), warning) {
		t.Errorf("a warning in %s", p.Log)
	}
}

// A proxy is for web requests that leave the machine. net/http spares loopback addresses, but not
// 0.0.0.0, which Linux takes for this machine.
func TestNoGRPCDialGoesThroughAProxy(t *testing.T) {
	address := etcdtest.StartEtcd(t)
	_, port, _ := strings.Cut(address, ":")
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"} {
		t.Setenv(name, "http://"+newDoor(t).address()) // which turns away
	}
	t.Setenv("NO_PROXY", "")
	first, second := bed.StartReady(t, bed.MemberArgs("0.0.0.0:"+port)...), bed.StartReady(
		t, bed.MemberArgs("0.0.0.0:"+port)...,
	)
	awaitHubs(t, first, 2)
	awaitHubs(t, second, 2)
	_, port, _ = strings.Cut(first.Control, ":")
	_ = bed.Program.MustRun(t, "hubs", "--addr=0.0.0.0:"+port)
}
