package cluster

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/connhub/connhub/test/bed"
)

const (
	etcdRole    = "etcd"
	etcdMembers = 3
	// etcdTick and etcdElection are in milliseconds. They are so short that a new leader is soon
	// found, and long enough for a busy machine.
	etcdTick     = 50
	etcdElection = 500
)

// etcdMember has the arguments with which a member of etcd starts.
type etcdMember struct {
	Name, Dir, Clients, Peers, Cluster string
	Existing                           bool
}

// serveEtcd is a member of etcd, in a process of its own so that it can be stopped and killed.
func serveEtcd() error {
	var running *embed.Etcd
	defer func() {
		if running != nil {
			running.Close()
		}
	}()
	return bed.AnswerLines(func(m etcdMember) (any, error) {
		var err error
		if running, err = m.start(); err != nil {
			return nil, err
		}
		select {
		case <-running.Server.ReadyNotify():
			return true, nil
		case err := <-running.Err():
			return nil, err
		}
	})
}

func (m *etcdMember) start() (*embed.Etcd, error) {
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster, c.InitialClusterToken = m.Name,
		m.Dir, m.Cluster, "connhub-test"
	clients, peers := []url.URL{{Scheme: "http", Host: m.Clients}}, []url.URL{
		{Scheme: "http", Host: m.Peers},
	}
	c.ListenClientUrls, c.AdvertiseClientUrls = clients, clients
	c.ListenPeerUrls, c.AdvertisePeerUrls = peers, peers
	c.TickMs, c.ElectionMs = etcdTick, etcdElection
	c.UnsafeNoFsync, c.EnableGRPCGateway = true, false
	if m.Existing {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	return embed.StartEtcd(c)
}

// etcd is a cluster of three members, each a process.
type etcd struct {
	members   []etcdMember
	processes []*bed.Helper
}

// startEtcd starts etcd until the test ends.
func startEtcd(t *testing.T) *etcd {
	t.Helper()
	e := &etcd{processes: make([]*bed.Helper, etcdMembers)}
	var cluster []string
	for i := range etcdMembers {
		m := etcdMember{
			Name: fmt.Sprint("etcd-", i), Dir: filepath.Join(t.TempDir(), "data"),
			Clients: freeAddress(t), Peers: freeAddress(t),
		}
		e.members = append(e.members, m)
		cluster = append(cluster, m.Name+"=http://"+m.Peers)
	}
	for i := range e.members {
		e.members[i].Cluster = strings.Join(cluster, ",")
	}
	e.launch(t)
	return e
}

// etcdHosts counts the hosts of freeAddress.
var etcdHosts atomic.Int32

// freeAddress returns an address without a listener. Its host is of this address alone, so the port
// stays free: no other listener and no client can get it.
func freeAddress(t *testing.T) string {
	t.Helper()
	n := etcdHosts.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.1.%d.%d:0", n/200, n%200+1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// launch starts all members, with the data of their previous run if there is any.
func (e *etcd) launch(t *testing.T) {
	t.Helper()
	for i := range e.members {
		e.processes[i] = bed.StartHelper(t, etcdRole)
		e.processes[i].Tell(t, e.members[i])
		e.members[i].Existing = true
	}
	for _, p := range e.processes {
		var ready bool
		p.Hear(t, &ready)
	}
}

// kill ends all members without a word.
func (e *etcd) kill() {
	for _, p := range e.processes {
		p.Stop()
	}
}

// freeze stops all members: their connections stay, and nothing answers.
func (e *etcd) freeze(t *testing.T) { e.signal(t, syscall.SIGSTOP) }

// thaw lets them go on.
func (e *etcd) thaw(t *testing.T) { e.signal(t, syscall.SIGCONT) }

func (e *etcd) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	for _, p := range e.processes {
		p.Signal(t, s)
	}
}

// endpoints are where hubs reach the members.
func (e *etcd) endpoints() []string {
	var all []string
	for _, m := range e.members {
		all = append(all, m.Clients)
	}
	return all
}

// client returns a plain client of etcd, which is closed with the test.
func (e *etcd) client(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(
		clientv3.Config{Endpoints: e.endpoints(), DialTimeout: bed.CallLimit, Logger: zap.NewNop()},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
