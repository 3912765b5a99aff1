package k8s

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// bed is a setup whose pods run.
type bed struct {
	*setup

	network string            // the first three numbers of the pods' addresses
	hosts   map[string]string // addresses of members by name
	clients *authority        // of the certificates that are dialled from outside
	inside  *authority        // etcd's own
	members []*process
	hubs    []*process
}

// Each bed has a network of its own, and each run of the tests others: runs don't meet.
var (
	networks = 64 + mathrand.IntN(128)
	beds     atomic.Int32
)

// TestPodsRun starts the pods of a setup: etcd, a hub, and a second hub when etcd has its users. It
// looks at them from all sides.
func TestPodsRun(t *testing.T) {
	t.Parallel()
	for _, folder := range setupFolders {
		t.Run(folder, func(t *testing.T) {
			b := newBed(t, folder)
			b.startEtcd(t)
			b.startHub(t)
			b.addUsers(t)
			b.startHub(t)
			b.hubsFindEachOther(t)
			for _, hub := range b.hubs {
				b.servesClients(t, hub)
				b.guardsOperations(t, hub)
			}
			for _, hub := range b.hubs {
				delay, err := time.ParseDuration(hub.variables()["CONNHUB_DRAIN_DELAY"])
				if err != nil {
					t.Fatal(err)
				}
				hub.stop(t, delay+shutdownBound) // it has no clients to close
				if code := hub.cmd.ProcessState.ExitCode(); code != 0 {
					t.Errorf("%s ended with %d", hub.name, code)
				}
			}
			for _, member := range b.members {
				member.stop(t, etcdBound)
			}
		})
	}
}

// TestALostMemberIsReplaced follows README.md's instructions for a member whose volume is lost.
func TestALostMemberIsReplaced(t *testing.T) {
	t.Parallel()
	b := newBed(t, base)
	b.startEtcd(t)
	lost := b.members[2]
	lost.stop(t, etcdBound)
	client := b.etcdClient(t)
	before, err := client.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(before.Members, func(m *etcdserverpb.Member) bool {
		return m.Name == lost.name
	})
	peer := lost.variables()["ETCD_INITIAL_ADVERTISE_PEER_URLS"]
	if i < 0 || len(before.Members) != 3 {
		t.Fatalf("no %s among %v", lost.name, before.Members)
	}
	if _, err := client.MemberRemove(t.Context(), before.Members[i].ID); err != nil {
		t.Fatal(err)
	}
	// etcd adds no member before the members that are left have been connected for five seconds.
	b.members[0].eventually(t, "member add", patience, func() error {
		_, err := client.MemberAdd(
			t.Context(), []string{strings.Replace(peer, lost.host(), lost.ip, 1)},
		)
		return err
	})
	setEnv(b.etcd(), "ETCD_INITIAL_CLUSTER_STATE", "existing")
	again := b.pod(b.etcd(), 2)
	again.ip = lost.ip
	start(t, again, b.hosts).awaitReady(t) // with an empty volume
	for _, member := range b.members[:2] {
		if err := member.ask(t.Context(), member.probes()["readiness"]); err != nil {
			t.Errorf("%s: %v", member.name, err)
		}
	}
}

func newBed(t *testing.T, folder string) *bed {
	t.Helper()
	b := &bed{
		setup:   loadSetup(t, folder),
		network: fmt.Sprintf("127.%d.%d", networks, beds.Add(1)),
		hosts:   make(map[string]string),
		clients: newAuthority(t, "clients and hubs"), inside: newAuthority(t, "etcd"),
	}
	if l, err := net.Listen("tcp", b.address(1)+":0"); err != nil {
		t.Fatalf("each pod needs a loopback address of its own, as on Linux: %v", err)
	} else {
		_ = l.Close()
	}
	b.given = make(map[string]map[string]string)
	for name, d := range documents.secrets {
		b.given[name] = b.secretFor(t, name, d)
	}
	return b
}

func (b *bed) address(number int) string { return fmt.Sprintf("%s.%d", b.network, number) }

// The last number of a pod's address: members from 10 on, hubs from 20 on.
const firstMember, firstHub = 10, 20

// secretFor makes the values that README.md tells to put into a Secret.
func (b *bed) secretFor(t *testing.T, name string, d document) map[string]string {
	t.Helper()
	values := make(map[string]string)
	for _, key := range d.keys {
		random := make([]byte, 36)
		_, _ = rand.Read(random)
		values[key] = base64.StdEncoding.EncodeToString(random)
	}
	switch {
	case name == "connhub-etcd-auth":
		values["username"] = quoted.FindStringSubmatch(d.use)[1]
	case slices.Contains(d.keys, "tls.crt"):
		a := b.clients
		if strings.HasPrefix(name, "connhub-etcd-") {
			a = b.inside
		}
		addresses := []net.IP{net.IPv4(127, 0, 0, 1)} // from where members dial each other here
		for i := range 30 {
			addresses = append(addresses, net.ParseIP(b.address(i)))
		}
		values["tls.crt"], values["tls.key"] = a.sign(t, d, addresses)
		values["ca.crt"] = a.pem
	}
	return values
}

func (b *bed) startEtcd(t *testing.T) {
	t.Helper()
	pods := make([]pod, b.etcd().replicas)
	for i := range pods {
		pods[i] = b.pod(b.etcd(), i)
		pods[i].ip = b.address(firstMember + i)
		b.hosts[pods[i].host()] = pods[i].ip
	}
	for _, p := range pods {
		b.members = append(b.members, start(t, p, b.hosts))
	}
	for _, member := range b.members {
		member.awaitReady(t)
		if strings.Contains(member.log.String(), "unrecognized environment variable") {
			t.Errorf("%s does not know all of its variables", member.name)
		}
	}
}

// addUsers gives etcd the users that README.md tells to give it, if the hubs have a user. Hubs that
// run go on.
func (b *bed) addUsers(t *testing.T) {
	t.Helper()
	variables := b.pod(b.hub(), 0).variables()
	user := variables["CONNHUB_ETCD_USERNAME"]
	if user == "" {
		return
	}
	auth := b.given["connhub-etcd-auth"]
	client := b.etcdClient(t)
	prefix := variables["CONNHUB_ETCD_PREFIX"] + "/"
	ctx := t.Context()
	for _, step := range []func() error{
		func() error { _, err := client.UserAdd(ctx, "root", "of whoever installs"); return err },
		func() error { _, err := client.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := client.UserAdd(ctx, user, auth["password"]); return err },
		func() error { _, err := client.RoleAdd(ctx, user); return err },
		func() error {
			_, err := client.RoleGrantPermission(ctx, user, prefix,
				clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := client.UserGrantRole(ctx, user, user); return err },
		func() error { _, err := client.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// etcdClient talks to the first member, with the certificate of the hubs if they have any.
func (b *bed) etcdClient(t *testing.T) *clientv3.Client {
	t.Helper()
	config := clientv3.Config{Endpoints: []string{b.address(firstMember) +
		":2379"}, DialTimeout: patience, Logger: zap.NewNop()}
	if b.pod(b.hub(), 0).variables()["CONNHUB_ETCD_CERT_FILE"] != "" {
		secret := b.given["connhub-etcd-client-tls"]
		pair, err := tls.X509KeyPair([]byte(secret["tls.crt"]), []byte(secret["tls.key"]))
		if err != nil {
			t.Fatal(err)
		}
		config.TLS = &tls.Config{
			RootCAs:      b.inside.pool(),
			Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
		}
	}
	client, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// startHub starts a further hub.
func (b *bed) startHub(t *testing.T) {
	t.Helper()
	number := len(b.hubs)
	p := b.pod(b.hub(), number)
	p.ip = b.address(firstHub + number)
	hub := start(t, p, b.hosts)
	b.hubs = append(b.hubs, hub)
	hub.awaitReady(t)
	// The check has teeth: a path that is not served does not pass.
	wrong := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{
		HTTPGet: &corev1.HTTPGetAction{Path: "/nothing", Port: intstr.FromString("ops")},
	}}
	if hub.ask(t.Context(), wrong) == nil {
		t.Errorf("%s answers a probe of a path that it does not have", hub.name)
	}
}

// hubsFindEachOther asks each hub with the operator's command, as README.md does.
func (b *bed) hubsFindEachOther(t *testing.T) {
	t.Helper()
	folder := t.TempDir()
	secret, err := b.secretValue("connhub-backend-secret", "backend.secret")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(folder, "backend.secret"), secret)
	write(t, filepath.Join(folder, "ca.crt"), b.clients.pem)
	for _, hub := range b.hubs {
		port, _ := hub.port(intstr.FromString("grpc"))
		command := []string{
			"hubs", "--json", "--addr", fmt.Sprintf("%s:%d", hub.ip, port.ContainerPort),
			"--secret-file", filepath.Join(folder, "backend.secret"),
		}
		if hub.variables()["CONNHUB_CONTROL_TLS_CERT_FILE"] != "" {
			command = append(command, "--tls-ca-file", filepath.Join(folder, "ca.crt"))
		}
		hub.eventually(t, "connhub hubs", patience, func() error {
			out, err := exec.CommandContext(t.Context(), hubBinary, command...).CombinedOutput()
			if err != nil {
				return fmt.Errorf("%w: %s", err, out)
			}
			var answer struct {
				Hubs []struct {
					Name, Address         string
					Reachable, Registered bool
				}
			}
			if err := json.Unmarshal(out, &answer); err != nil {
				return err
			}
			linked := 0
			for _, h := range answer.Hubs {
				i := slices.IndexFunc(b.hubs, func(p *process) bool {
					return p.name == h.Name && p.advertised() == h.Address
				})
				if i >= 0 && h.Reachable && h.Registered {
					linked++
				}
			}
			if linked != len(b.hubs) || len(answer.Hubs) != len(b.hubs) {
				return fmt.Errorf("it sees %d hubs, has links to %d of ours, want %d: %s",
					len(answer.Hubs), linked, len(b.hubs), out)
			}
			return nil
		})
	}
}

// advertised is where other hubs dial p.
func (p pod) advertised() string { return p.variables()["CONNHUB_ADVERTISE_CONTROL"] }

// servesClients dials the clients' port as a client of the public URL does, without a token.
func (b *bed) servesClients(t *testing.T, hub *process) {
	t.Helper()
	variables := hub.variables()
	public, err := url.Parse(variables["CONNHUB_PUBLIC_URL"])
	if err != nil {
		t.Fatal(err)
	}
	port, _ := hub.port(intstr.FromString("clients"))
	scheme := "http"
	if variables["CONNHUB_TLS_CERT_FILE"] != "" {
		scheme = "https"
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: b.clients.pool(), ServerName: public.Hostname(), MinVersion: tls.VersionTLS12,
	}}
	defer transport.CloseIdleConnections()
	target := fmt.Sprintf("%s://%s:%d/client/hubs/default", scheme, hub.ip, port.ContainerPort)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
		"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
		"Origin":            variables["CONNHUB_ALLOWED_ORIGIN"],
	} {
		if value != "" {
			request.Header.Set(name, value)
		}
	}
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusUnauthorized {
		t.Errorf("%s: a client without a token: %s", hub.name, response.Status)
	}
}

// guardsOperations holds that the port that the kubelet reaches tells others no more than health.
func (b *bed) guardsOperations(t *testing.T, hub *process) {
	t.Helper()
	port, _ := hub.port(intstr.FromString("ops"))
	secret, err := b.secretValue("connhub-ops-secret", "ops.secret")
	if err != nil {
		t.Fatal(err)
	}
	for credential, want := range map[string]int{
		"": http.StatusUnauthorized, "Bearer " + secret: http.StatusOK,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf(
			"http://%s:%d/metrics", hub.ip, port.ContainerPort,
		), nil)
		if err != nil {
			t.Fatal(err)
		}
		if credential != "" {
			request.Header.Set("Authorization", credential)
		}
		response, err := (&http.Client{Timeout: patience}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("%s: /metrics: %s, want %d", hub.name, response.Status, want)
		}
	}
}
