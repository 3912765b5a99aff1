package main

import (
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/overflow"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/nodetest"
	"github.com/connhub/connhub/test/bed"
)

func TestServeRefusesToStartAndListsAllProblems(t *testing.T) {
	t.Parallel()
	short := testkit.WriteFile(t, "short", "short")
	for name, tt := range map[string]struct {
		args []string
		want []string
	}{
		"nothing given": {nil, []string{
			"--token-key-file (CONNHUB_TOKEN_KEY_FILE) is missing",
			"--backend-secret-file (CONNHUB_BACKEND_SECRET_FILE) is missing",
			"--public-url (CONNHUB_PUBLIC_URL) is missing",
			"--etcd-endpoints (CONNHUB_ETCD_ENDPOINTS) is missing",
		}},
		"only the key": {[]string{"--token-key-file=" + short, "--single-hub"}, []string{
			"token key: 5 bytes, want at least 32",
			"--backend-secret-file (CONNHUB_BACKEND_SECRET_FILE) is missing",
			"--public-url (CONNHUB_PUBLIC_URL) is missing",
		}},
		"everything wrong": {
			[]string{
				"--token-key-file=/nowhere", "--backend-secret-file=" + short,
				"--public-url=ftp://x", "--listen-ops=0.0.0.0:9100",
				"--listen-clients=nonsense", "--tls-cert-file=/nowhere",
				"--control-tls-cert-file=/nowhere", "--control-tls-key-file=/nowhere",
				"--max-connections=0", "--outbox-bytes=1KiB", "--namespace-overflow=chat=conflate",
				"--namespace-overflow=Chat=close",
				"--ops-secret-file=", "--ping-interval=10ms", "--allowed-origin=[",
				"--connect-rate=-1",
				"--single-hub", "--advertise-control=:9090", "--interest-hash-bits=65",
				"--peer-ca-file=/nowhere",
				"--token-jwks=http://issuer.example/jwks", "--token-jwks-interval=1s",
			},
			[]string{
				"token key: open /nowhere: no such file",
				"secret of 5 bytes, want at least 32",
				`--public-url "ftp://x": want http(s):// or ws(s):// and a host`,
				"--listen-ops 0.0.0.0:9100: without --ops-secret-file it must be a " +
					"loopback address",
				"--listen-clients nonsense: want HOST:PORT",
				"--tls-cert-file and --tls-key-file go together",
				"--control-tls-cert-file: ",
				"--max-connections is 0, must be above 0",
				"--outbox-bytes is 1024, must be at least",
				"--ping-interval is 10ms, must be at least 1s",
				"--connect-rate is -1, must be from 0 to 1000000",
				`--allowed-origin "[" is not a pattern`,
				"--namespace-overflow chat=conflate: want close, drop-oldest or drop-newest",
				`"Chat" is not a namespace`,
				"--advertise-control :9090: want HOST:PORT",
				"--interest-hash-bits is 65, must be 1 to 64",
				"--peer-ca-file: open /nowhere",
				`--token-jwks is "http://issuer.example/jwks", want a file, or https://`,
				"--token-jwks-interval is 1s, must be at least 10s",
				"--advertise-control has no effect with --single-hub",
				"--peer-ca-file has no effect with --single-hub",
			},
		},
		"the same secret twice": {
			[]string{
				"--single-hub", "--token-key-file=" + testkit.WriteFile(t, "k", testkit.SomeKey),
				"--public-url=http://x", "--backend-secret-file=" +
					testkit.WriteFile(t, "b", testkit.SomeSecret),
				"--peer-secret-file=" + testkit.WriteFile(t, "p", testkit.SomeSecret),
			},
			[]string{
				"the same secret has the role backend too",
				"--peer-secret-file has no effect with --single-hub",
			},
		},
		"alone and not alone": {
			[]string{"--single-hub", "--etcd-endpoints=127.0.0.1:2379", "--insecure-dev"},
			[]string{"--single-hub and --etcd-endpoints contradict each other"},
		},
		"a cluster without a secret": {
			[]string{
				"--etcd-endpoints=127.0.0.1:2379",
				"--insecure-dev", "--backend-secret-file=" +
					testkit.WriteFile(t, "b", testkit.SomeSecret),
			},
			[]string{"--peer-secret-file (CONNHUB_PEER_SECRET_FILE) is missing"},
		},
		"endpoints that are none": {
			[]string{"--etcd-endpoints= ,", "--insecure-dev"},
			[]string{"--etcd-endpoints (CONNHUB_ETCD_ENDPOINTS) is missing"},
		},
		"etcd all wrong": {
			[]string{
				"--insecure-dev", "--etcd-endpoints=nonsense,http://x:1", "--etcd-prefix=connhub",
				"--etcd-ca-file=/nowhere", "--etcd-cert-file=/nowhere",
				"--etcd-username=hub", "--advertise-control=0.0.0.0:9090", "--peer-server-name=hub",
			},
			[]string{
				`--etcd-endpoints[0] "nonsense" is not host:port`,
				"--etcd-endpoints[1] is \"http://x:1\", unlike the first endpoint",
				`--etcd-prefix is "connhub", want /name`,
				"--etcd-ca-file: open /nowhere",
				"--etcd-cert-file and --etcd-key-file go together",
				"--etcd-password-file is not set: the user needs a password",
				"--advertise-control 0.0.0.0:9090: want an address that other hubs can dial",
				"--peer-ca-file and --peer-server-name need --control-tls-cert-file",
			},
		},
		"no password for etcd": {
			[]string{
				"--insecure-dev", "--etcd-endpoints=http://x:1", "--etcd-username=hub",
				"--etcd-password-file=" + testkit.WriteFile(t, "empty", "\nsecond\n"),
				"--etcd-ca-file=" + short,
			},
			[]string{
				"--etcd-password-file: the first line of ", "--etcd-ca-file: no certificate in ",
			},
		},
		"settings that another one makes void": {
			[]string{
				"--insecure-dev", "--single-hub", "--token-jwks-interval=1m",
				"--close-on-token-expiry", "--zone=a", "--peer-server-name=hub",
				"--etcd-prefix=/other", "--etcd-ca-file=x", "--etcd-cert-file=x",
				"--etcd-key-file=x", "--etcd-username=u", "--etcd-password-file=x",
			},
			[]string{
				"--token-jwks-interval has no effect without --token-jwks",
				"--close-on-token-expiry has no effect without --token-key-file or --token-jwks: " +
					"clients have no tokens",
				"--zone has no effect with --single-hub: there are no other hubs",
				"--peer-server-name has no effect with --single-hub",
				"--etcd-prefix has no effect with --single-hub",
				"--etcd-ca-file has no effect with --single-hub",
				"--etcd-cert-file has no effect with --single-hub",
				"--etcd-key-file has no effect with --single-hub",
				"--etcd-username has no effect with --single-hub",
				"--etcd-password-file has no effect with --single-hub",
				"--peer-ca-file and --peer-server-name need --control-tls-cert-file",
			},
		},
		"origins that can't match": {
			[]string{
				"--insecure-dev", "--single-hub", "--allowed-origin=null,https://app.example.com",
			},
			[]string{
				`--allowed-origin "null" is what browsers send for pages without an origin`,
				`--allowed-origin "https://app.example.com" has no effect: ` +
					"only pages of this machine are served",
			},
		},
		"a password in the URL": {
			[]string{
				"--single-hub", "--token-key-file=" + testkit.WriteFile(t, "k", testkit.SomeKey),
				"--backend-secret-file=" + testkit.WriteFile(t, "b", testkit.SomeSecret),
				"--public-url=https://u:hunter2@x/",
			},
			[]string{`--public-url "https://xxxxx@x/": want no user, query or fragment`},
		},
		"insecure beyond loopback": {
			[]string{
				"--single-hub", "--insecure-dev",
				"--listen-clients=:8080", "--listen-control=192.0.2.1:1", "--listen-ops=[::]:9100",
			},
			[]string{
				"--listen-clients :8080: --insecure-dev listens on loopback only",
				"--listen-control 192.0.2.1:1: --insecure-dev listens on loopback only",
				"--listen-ops [::]:9100: --insecure-dev listens on loopback only",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := program.Run(t, "", append([]string{"serve"}, tt.args...)...)
			if r.Code != terminal.ExitUsage || !strings.HasPrefix(
				r.Stderr, "connhub: the hub does not start:\n  - ",
			) {
				t.Fatalf("exit %d, %s", r.Code, r.Stderr)
			}
			for _, want := range tt.want {
				if strings.Count(r.Stderr, want) != 1 {
					t.Errorf("want once: %s\n%s", want, r.Stderr)
				}
			}
			if got := strings.Count(r.Stderr, "\n  - "); got != len(tt.want) {
				t.Errorf("%d problems, want %d:\n%s", got, len(tt.want), r.Stderr)
			}
		})
	}
}

func TestServeWithSecretsAsksEverybodyForOne(t *testing.T) {
	c, err := parse(t, bed.ServeArgs(t)...)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Serve.planHub()
	if err != nil {
		t.Fatal(err)
	}
	hub := nodetest.Start(t, func(p *node.Config) { *p = plan })
	addr := "--addr=" + hub.Control
	r := program.Run(t, "", "hubs", addr)
	if r.Code != terminal.ExitError || !strings.Contains(
		r.Stderr, "(CREDENTIALS_INVALID). Give the secret with --secret-file",
	) {
		t.Errorf("without a secret: exit %d, %s", r.Code, r.Stderr)
	}
	if r := program.Run(
		t, "", "hubs", addr, "--secret-file="+testkit.WriteFile(t, "s", testkit.OtherSecret),
	); r.Code != terminal.ExitError || !strings.Contains(r.Stderr, "CREDENTIALS_INVALID") {
		t.Errorf("with a wrong one: exit %d, %s", r.Code, r.Stderr)
	}
	if r := program.Run(
		t, "", "hubs", addr, "--secret-file="+testkit.WriteFile(t, "s", "# nothing\n"),
	); r.Code != terminal.ExitUsage || !strings.Contains(r.Stderr, "no secret in") {
		t.Errorf("with an empty file: exit %d, %s", r.Code, r.Stderr)
	}
	t.Setenv("CONNHUB_SECRET_FILE", c.Serve.BackendSecretFile[0])
	if got := program.MustRun(t, "token", addr); !strings.HasPrefix(
		got, "wss://hub.example/edge/client/hubs/default?access_token=",
	) {
		t.Errorf("token: %s", got)
	}
	if got := testkit.Get(t, "http://"+hub.Clients+"/", nil); got.Code != 404 {
		t.Errorf("serve has a page: %d", got.Code)
	}
	if got := testkit.Get(t, "http://"+hub.Clients+"/ws?user=ann", map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket",
		"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	}); got.Code != 401 {
		t.Errorf("a client without token: %d %s", got.Code, got.Body)
	}
}

func TestOperationsPortLeavesLoopbackWithASecret(t *testing.T) {
	t.Parallel()
	c, err := parse(t, bed.ServeArgs(t, "--listen-ops=:9100",
		"--ops-secret-file="+testkit.WriteFile(t, "ops", testkit.OtherSecret))...)
	if err != nil {
		t.Fatal(err)
	}
	if plan, err := c.Serve.planHub(); err != nil ||
		plan.OpsSecrets == nil || plan.ListenOps != ":9100" {
		t.Errorf("plan: %+v, %v", plan, err)
	}
}

func TestInsecureDevIsLoopbackWithoutSecrets(t *testing.T) {
	t.Parallel()
	c, err := parse(t, "serve", "--insecure-dev", "--single-hub")
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Serve.planHub()
	if err != nil {
		t.Fatal(err)
	}
	if plan.ListenClients != "127.0.0.1:8080" ||
		plan.ListenControl != "127.0.0.1:9090" || plan.ListenOps != "127.0.0.1:9100" {
		t.Errorf("listens on %s, %s, %s", plan.ListenClients, plan.ListenControl, plan.ListenOps)
	}
	if !plan.LoopbackOnly || !plan.Anonymous || !plan.InsecureControl || plan.Page {
		t.Errorf("plan: %+v", plan)
	}
	// A secret that is given is asked for all the same.
	c, err = parse(t, "serve", "--insecure-dev", "--single-hub",
		"--backend-secret-file="+testkit.WriteFile(t, "b", testkit.SomeSecret))
	if err != nil {
		t.Fatal(err)
	}
	if plan, err = c.Serve.planHub(); err != nil || plan.InsecureControl || plan.Secrets == nil {
		t.Errorf("with secrets: insecure %v, %v", plan.InsecureControl, err)
	}
}

func TestSettingsReachHubAndEdge(t *testing.T) {
	t.Parallel()
	c, err := parse(t, bed.ServeArgs(t, "--name=n", "--max-connections=5",
		"--outbox-messages=6", "--outbox-bytes=3MiB", "--overflow=drop-newest",
		"--request-ids=13", "--inbound-bytes=14MiB",
		"--namespace-overflow=chat=drop-oldest,logs=close", "--allowed-origin=a.example",
		"--allowed-origin=b.example", "--max-message=7KiB",
		"--message-timeout=8s", "--ping-interval=9s", "--pong-timeout=10s", "--close-timeout=11s",
		"--handshake-timeout=12s", "--connect-rate=15", "--goroutine-per-link",
		"--close-on-token-expiry")...)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Serve.planHub()
	if err != nil {
		t.Fatal(err)
	}
	if p.Hub.Name != "n" || p.Hub.MaxConnections != 5 || p.Hub.Outbox != (hub.Bounds{
		Messages: 6, Bytes: 3 << 20,
	}) || p.Hub.Overflow != overflow.DropNewest ||
		p.Hub.RequestIDs != 13 || p.Edge.InboundBytes != 14<<20 ||
		p.Hub.NamespaceOverflow["chat"] != overflow.DropOldest ||
		p.Hub.NamespaceOverflow["logs"] != overflow.CloseSlow {
		t.Errorf("hub: %+v", p.Hub)
	}
	e := p.Edge
	if strings.Join(e.AllowedOrigins, " ") != "a.example b.example" ||
		e.MaxMessage != 7<<10 || e.MessageTimeout.Seconds() != 8 ||
		e.PingInterval.Seconds() != 9 ||
		e.PongTimeout.Seconds() != 10 || e.CloseTimeout.Seconds() != 11 ||
		e.HandshakeTimeout.Seconds() != 12 || e.ConnectRate != 15 ||
		!e.GoroutinePerLink || !e.EndAtExpiry {
		t.Errorf("edge: %+v", e)
	}
}

func TestPublicURLSaysWhatBrowsersSay(t *testing.T) {
	for given, want := range map[string]string{
		"https://Hub.Example:443/edge": "https://hub.example/edge",
		"ws://hub.example:80":          "ws://hub.example",
		"http://hub.example:443":       "http://hub.example:443",
		"https://[::1]:443":            "https://[::1]",
	} {
		u, err := url.Parse(given)
		if err != nil {
			t.Fatal(err)
		}
		if normalizeURL(u); u.String() != want {
			t.Errorf("%s became %s, want %s", given, u, want)
		}
	}
}

func TestDevListensOnLoopbackOnlyAndKeepsItsKey(t *testing.T) {
	t.Parallel()
	r := program.Run(t, "", "dev", "--listen-clients=:8080",
		"--listen-ops=192.0.2.1:0", "--data-dir="+t.TempDir())
	if r.Code != terminal.ExitUsage ||
		strings.Count(r.Stderr, "dev listens on loopback only") != 2 {
		t.Errorf("exit %d, %s", r.Code, r.Stderr)
	}

	dir := filepath.Join(t.TempDir(), "a", "b")
	first, err := (&devCmd{DataDir: dir}).tokenKey()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "token.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "token.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&devCmd{DataDir: dir}).tokenKey(); err != nil || first == nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "token.key")); err != nil ||
		string(again) != string(content) {
		t.Errorf("the second start made another key (%v)", err)
	}
	if err := makeTokenKey(filepath.Join(dir, "token.key")); err != nil {
		t.Errorf("a second hub at the same time: %v", err)
	}
	if again, err := os.ReadFile(filepath.Join(dir, "token.key")); err != nil ||
		string(again) != string(content) {
		t.Errorf("a second hub at the same time took the key away (%v)", err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestTakenPortsAreAClearLine(t *testing.T) {
	t.Parallel()
	a, b := testkit.TakePort(t), testkit.TakePort(t)
	r := program.Run(t, "", "dev", "--listen-clients="+a, "--listen-control=127.0.0.1:0",
		"--listen-ops="+b, "--etcd-listen=127.0.0.1:0", "--data-dir="+t.TempDir(),
		"--log-level=error")
	want := "connhub: can't listen: --listen-clients " + a + ": the port is taken; is another " +
		"hub running?; --listen-ops " + b + ": the port is taken; is another hub running?\n"
	if r.Code != terminal.ExitError || r.Stderr != want {
		t.Errorf("exit %d, %q, want %q", r.Code, r.Stderr, want)
	}
}
