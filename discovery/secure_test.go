package discovery_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/connhub/connhub/discovery"
)

// secured starts an etcd with TLS and passwords. It has three users: hub has all permissions below
// the prefix, narrow can read and write the keys but not watch the prefix, stranger has no
// permission.
func secured(
	t *testing.T, prefix string, change ...func(*embed.Config),
) (endpoint string, trust *tls.Config) {
	t.Helper()
	cert, key, roots := certificate(t)
	listen := url.URL{Scheme: "https", Host: "127.0.0.1:0"}
	config := embed.NewConfig()
	config.Dir = t.TempDir()
	config.ListenPeerUrls = nil
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{listen}, []url.URL{listen}
	config.ClientTLSInfo.CertFile, config.ClientTLSInfo.KeyFile = cert, key
	config.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	config.BcryptCost = 4 // bcrypt's minimum, to save time
	config.UnsafeNoFsync = true
	config.TickMs, config.ElectionMs = 50, 500
	for _, f := range change {
		f(config)
	}
	server, err := embed.StartEtcd(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	<-server.Server.ReadyNotify()

	endpoint, trust = server.Clients[0].Addr().String(), &tls.Config{RootCAs: roots}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, TLS: trust, Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx := t.Context()
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(client.RoleAdd(ctx, "root"))
	do(client.RoleAdd(ctx, "hub"))
	do(client.RoleAdd(ctx, "narrow"))
	do(client.RoleGrantPermission(ctx, "hub", prefix+"/", clientv3.GetPrefixRangeEnd(prefix+"/"),
		clientv3.PermissionType(clientv3.PermReadWrite)))
	for _, place := range []string{"/hubs/", "/seen/", "/dead/", "/cluster"} {
		do(client.RoleGrantPermission(ctx, "narrow", prefix+place,
			clientv3.GetPrefixRangeEnd(prefix+place),
			clientv3.PermissionType(clientv3.PermReadWrite)))
	}
	for _, user := range []string{"root", "hub", "narrow", "stranger"} {
		do(client.UserAdd(ctx, user, "password of "+user))
	}
	do(client.UserGrantRole(ctx, "root", "root"))
	do(client.UserGrantRole(ctx, "hub", "hub"))
	do(client.UserGrantRole(ctx, "narrow", "narrow"))
	do(client.AuthEnable(ctx))
	return endpoint, trust
}

// certificate makes a certificate for 127.0.0.1 and returns its files.
func certificate(t *testing.T) (cert, key string, roots *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:         true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, bytes []byte) string {
		path := filepath.Join(t.TempDir(), name)
		err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: bytes}), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", secret), roots
}

func TestEtcdWithTLSAndPasswords(t *testing.T) {
	t.Parallel()
	endpoint, trust := secured(t, prefixOf(t))
	as := func(user, password string) func(*discovery.Config) {
		return func(c *discovery.Config) {
			c.Endpoints, c.TLS, c.Prefix = []string{endpoint}, trust, prefixOf(t)
			c.Username, c.Password = user, password
		}
	}

	a := open(t, as("hub", "password of hub"), lease(time.Second))
	w := watch(t, a)
	register(t, a, "a")
	sees(t, w, "a")

	b := open(t, as("hub", "password of hub"))
	register(t, b, "b")
	sees(t, w, "a", "b")
	if err := b.Deregister(t.Context()); err != nil {
		t.Fatal(err)
	}
	if won, err := b.DeclareDead(t.Context(), "b", "a"); !won || err != nil {
		t.Errorf("declare dead: %v, %v", won, err)
	}

	for name, config := range map[string]func(*discovery.Config){
		"wrong password": as("hub", "password of root"),
		"unknown user":   as("nobody", "password"),
		"no user":        as("", ""),
		"no permission":  as("stranger", "password of stranger"),
	} {
		err := open(t, config).Register(t.Context(), member("c"))
		if !errors.Is(err, discovery.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}

	numbers := count(t)
	mistrustful := open(t, as("hub", "password of hub"),
		func(c *discovery.Config) { c.TLS = new(tls.Config) }, numbers.into)
	ctx, cancel := context.WithCancel(t.Context())
	registered := make(chan error, 1)
	go func() { registered <- mistrustful.Register(ctx, member("c")) }()
	eventually(t, "it has tried", func() bool {
		return numbers.value("connhub_discovery_registrations_total", "failed") >= 1
	})
	cancel()
	if err := <-registered; err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("unknown authority: %v", err)
	}
	sees(t, watch(t, a), "a") // its lease was renewed

	var log journal
	numbers = count(t)
	narrow := open(t, as("narrow", "password of narrow"), logTo(&log), numbers.into)
	w = watch(t, narrow)
	for range 4 { // reads succeed and watches are refused, repeatedly
		next(t, w)
	}
	equal(t, "lines that etcd is lost", log.count("etcd is lost"), 1)
	equal(t, "lines that etcd is back", log.count("etcd is back"), 0)
	equal(t, "resyncs", numbers.sum("connhub_discovery_resyncs_total"), 0.0)
}

// etcd forgets a token that is unused for some time. A hub logs in again and continues.
func TestATokenOfEtcdThatRunsOutIsNoFailure(t *testing.T) {
	t.Parallel()
	endpoint, trust := secured(t, prefixOf(t), func(c *embed.Config) { c.AuthTokenTTL = 1 })
	var log journal
	a := open(t, lease(6*time.Second), logTo(&log), func(c *discovery.Config) {
		c.Endpoints, c.TLS = []string{endpoint}, trust
		c.Username, c.Password = "hub", "password of hub"
	})
	register(t, a, "a")
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{endpoint}, TLS: trust, Username: "root", Password: "password of root",
		Logger: zap.NewNop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	first := time.Now()
	eventually(t, "it is listed for longer than a lease", func() bool {
		got, err := client.Get(t.Context(), prefixOf(t)+"/hubs/a")
		if err != nil || len(got.Kvs) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		return time.Since(first) > 8*time.Second
	})
	equal(t, "warnings", log.count("level=WARN"), 0)
}
