package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node"
)

func planServe(t *testing.T, args ...string) node.Config {
	t.Helper()
	c, err := parse(t, append([]string{"serve"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Serve.planHub()
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func planDev(t *testing.T, args ...string) node.Config {
	t.Helper()
	c, err := parse(t, append([]string{"dev", "--data-dir=" + t.TempDir()}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := c.Dev.planHub()
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestClusterSettingsReachEtcdAndMesh(t *testing.T) {
	cert, key := testkit.WriteCertificate(t, t.TempDir(), "hub")
	t.Setenv("CONNHUB_ETCD_ENDPOINTS", "https://etcd-0:2379, https://etcd-1:2379,")
	p := planServe(t,
		"--token-key-file="+testkit.WriteFile(t, "k", testkit.SomeKey),
		"--backend-secret-file="+testkit.WriteFile(t, "b", testkit.SomeSecret),
		"--public-url=https://hub.example",
		"--peer-secret-file="+testkit.WriteFile(
			t, "p", "# newest first\n"+testkit.OtherSecret+
				"\npeer-secret-that-is-old-0123456789-0123\n",
		),
		"--etcd-prefix=/a/b", "--etcd-ca-file="+cert, "--etcd-cert-file="+cert,
		"--etcd-key-file="+key,
		"--etcd-username=hub", "--etcd-password-file="+
			testkit.WriteFile(t, "w", "pass word\r\nmore\n"),
		"--control-tls-cert-file="+cert, "--control-tls-key-file="+key, "--peer-ca-file="+cert,
		"--peer-server-name=hubs.internal",
		"--advertise-control=10.0.0.1:9090", "--zone=eu-1a", "--interest-hash-bits=8").Cluster
	r := p.Registry
	if diff := cmp.Diff(
		[]string{"https://etcd-0:2379", "https://etcd-1:2379"}, r.Endpoints,
	); diff != "" {
		t.Error(diff)
	}
	if r.Prefix != "/a/b" ||
		r.Username != "hub" || r.Password != "pass word" || r.TLS == nil || r.TLS.RootCAs == nil {
		t.Errorf("etcd: prefix %q, user %q, password %q, TLS %+v",
			r.Prefix, r.Username, r.Password, r.TLS)
	}
	if pair, err := r.TLS.GetClientCertificate(nil); err != nil ||
		pair.Leaf.Subject.CommonName != "hub" {
		t.Errorf("certificate for etcd: %v, %v", pair, err)
	}
	if p.PeerTLS == nil || p.PeerTLS.RootCAs == nil || p.PeerTLS.ServerName != "hubs.internal" {
		t.Errorf("TLS of other hubs: %+v", p.PeerTLS)
	}
	if p.PeerSecret != testkit.OtherSecret || p.Advertise != "10.0.0.1:9090" ||
		p.Zone != "eu-1a" || p.HashBits != 8 || p.Embedded != nil {
		t.Errorf("plan: %+v", p)
	}
}

func TestHubsOfAClusterTalkPlainTextUnlessControlDoesNot(t *testing.T) {
	p := planServe(t, "--insecure-dev", "--etcd-endpoints=127.0.0.1:2379",
		"--etcd-endpoints=127.0.0.1:2380").Cluster
	if p.PeerTLS != nil || p.PeerSecret != "" || p.Registry.TLS != nil ||
		p.Registry.Prefix != "/connhub" || len(p.Registry.Endpoints) != 2 || p.HashBits != 64 {
		t.Errorf("plan: %+v", p)
	}
	cert, key := testkit.WriteCertificate(t, t.TempDir(), "hub")
	p = planServe(t, "--insecure-dev", "--etcd-endpoints=127.0.0.1:2379",
		"--control-tls-cert-file="+cert, "--control-tls-key-file="+key).Cluster
	if p.PeerTLS == nil || p.PeerTLS.RootCAs != nil || p.PeerTLS.ServerName != "" {
		t.Errorf("TLS with the system's roots: %+v", p.PeerTLS)
	}
}

func TestAnEmptyVariableIsAForgottenOne(t *testing.T) {
	t.Setenv("CONNHUB_ETCD_ENDPOINTS", "")
	r := program.Run(t, "", "serve", "--insecure-dev")
	if r.Code != terminal.ExitUsage || !strings.Contains(
		r.Stderr, "--etcd-endpoints (CONNHUB_ETCD_ENDPOINTS) is missing",
	) {
		t.Errorf("exit %d, %s", r.Code, r.Stderr)
	}
	if p := planServe(t, "--insecure-dev", "--single-hub"); p.Cluster != nil {
		t.Errorf("a single hub has a cluster: %+v", p.Cluster)
	}
}

func TestDevBringsItsEtcdOrJoinsAnother(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := planDev(t, "--data-dir="+dir, "--etcd-listen=127.0.0.1:0").Cluster
	if p.Embedded == nil || p.Embedded.Dir != filepath.Join(dir, "etcd") ||
		p.Embedded.ClientAddress != "127.0.0.1:0" || p.Registry.Prefix != devPrefix {
		t.Errorf("its own: %+v", p)
	}
	if p := planDev(t).Cluster; p.Embedded.ClientAddress != "127.0.0.1:2379" {
		t.Errorf("by default at %s", p.Embedded.ClientAddress)
	}
	p = planDev(t, "--join=127.0.0.1:2379").Cluster
	if p.Embedded != nil || strings.Join(p.Registry.Endpoints, " ") != "127.0.0.1:2379" ||
		p.Registry.Prefix != devPrefix {
		t.Errorf("another: %+v", p)
	}
	for flag, want := range map[string]string{
		"--join=192.0.2.1:2379": "--join 192.0.2.1:2379: dev joins hubs of this " +
			"machine only",
		"--join=2379": "--join 2379: want HOST:PORT",
		"--etcd-listen=192.0.2.1:2379": `--etcd-listen is "192.0.2.1:2379", ` +
			"want a loopback address",
	} {
		if r := program.Run(t, "", "dev", flag,
			"--data-dir="+t.TempDir()); r.Code != terminal.ExitUsage ||
			!strings.Contains(r.Stderr, want) {
			t.Errorf("%s: exit %d, %s", flag, r.Code, r.Stderr)
		}
	}
}

func TestATakenHubSuggestsHowToAddASecond(t *testing.T) {
	clients, ops, etcd, dir := testkit.TakePort(t), testkit.TakePort(t), testkit.TakePort(t),
		t.TempDir()
	r := program.Run(t, "", "dev", "--listen-clients="+clients, "--listen-control=127.0.0.1:0",
		"--listen-ops="+ops, "--etcd-listen="+etcd, "--data-dir="+dir, "--log-level=error")
	_, suggestion, _ := strings.Cut(
		r.Stderr, "\nTo add a second hub to the one that runs: connhub ",
	)
	c, err := parse(t, strings.Fields(suggestion)...)
	if r.Code != terminal.ExitError || err != nil || c.Dev.Join != etcd || c.Dev.DataDir != dir {
		t.Fatalf("exit %d, %v, %s", r.Code, err, r.Stderr)
	}
	for taken, free := range map[string]string{clients: c.Dev.ListenClients, ops: c.Dev.ListenOps} {
		if free == taken || !isFree(free) {
			t.Errorf("%s is suggested for %s", free, taken)
		}
	}
	// The ports are free, and etcd's is not.
	r = program.Run(t, "", "dev", "--listen-clients=127.0.0.1:0", "--listen-control=127.0.0.1:0",
		"--listen-ops=127.0.0.1:0", "--etcd-listen="+etcd, "--data-dir="+dir, "--log-level=error")
	want := "connhub: can't listen: --etcd-listen " + etcd + ": the port is taken; is another " +
		"hub running?\nTo add a second hub to the one that runs: connhub dev --join " + etcd +
		" --listen-clients 127.0.0.1:0 --listen-control 127.0.0.1:0 --listen-ops 127.0.0.1:0 " +
		"--data-dir " + dir + "\n"
	if r.Code != terminal.ExitError || r.Stderr != want {
		t.Errorf("exit %d, %q, want %q", r.Code, r.Stderr, want)
	}
}
