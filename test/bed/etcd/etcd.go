// Package etcd runs an etcd of three members for tests. Each is a process, so that a test can stop
// and kill it. Only tests import this package.
//
// Purpose: the members are real ones, with elections and data on disk.
//
// Life: the TestMain of the package gives bed.Main the role Role with Serve. A Cluster lives from
// Start to the end of the test.
//
// Goroutines: those of bed.Helper.
//
// Locking: a Cluster belongs to the goroutine of its test.
//
// Backpressure: none; it carries no data of the test.
//
// Errors: a method that takes a *testing.T ends the test.
package etcd

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
	// Role is the role of Serve in bed.Main.
	Role = "etcd"
	// Members is the number of members of a Cluster.
	Members = 3
	// tick and election are in milliseconds. They are so short that a new leader is soon found, and
	// long enough for a busy machine.
	tick     = 50
	election = 500
)

// member has the arguments with which a member of etcd starts.
type member struct {
	Name, Dir, Clients, Peers, Cluster string
	Existing                           bool
}

// Serve is a member of etcd. It ends with its standard input.
func Serve() error {
	var running *embed.Etcd
	defer func() {
		if running != nil {
			running.Close()
		}
	}()
	return bed.AnswerLines(func(m member) (any, error) {
		var err error
		if running, err = m.startServer(); err != nil {
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

func (m *member) startServer() (*embed.Etcd, error) {
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster, c.InitialClusterToken = m.Name,
		m.Dir, m.Cluster, "connhub-test"
	clients, peers := []url.URL{{Scheme: "http", Host: m.Clients}}, []url.URL{
		{Scheme: "http", Host: m.Peers},
	}
	c.ListenClientUrls, c.AdvertiseClientUrls = clients, clients
	c.ListenPeerUrls, c.AdvertisePeerUrls = peers, peers
	c.TickMs, c.ElectionMs = tick, election
	c.UnsafeNoFsync, c.EnableGRPCGateway = true, false
	if m.Existing {
		c.ClusterState = embed.ClusterStateFlagExisting
	}
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	return embed.StartEtcd(c)
}

// Cluster is an etcd of three members, each a process.
type Cluster struct {
	members   []member
	processes []*bed.Helper
}

// Start starts an etcd until the test ends.
func Start(t *testing.T) *Cluster {
	t.Helper()
	e := &Cluster{processes: make([]*bed.Helper, Members)}
	var cluster []string
	for i := range Members {
		m := member{
			Name: fmt.Sprint("etcd-", i), Dir: filepath.Join(t.TempDir(), "data"),
			Clients: freeAddress(t), Peers: freeAddress(t),
		}
		e.members = append(e.members, m)
		cluster = append(cluster, m.Name+"=http://"+m.Peers)
	}
	for i := range e.members {
		e.members[i].Cluster = strings.Join(cluster, ",")
	}
	e.Launch(t)
	return e
}

// hosts counts the hosts of freeAddress.
var hosts atomic.Int32

// freeAddress returns an address without a listener. Its host is of this address alone, so the port
// stays free: no other listener and no client can get it.
func freeAddress(t *testing.T) string {
	t.Helper()
	n := hosts.Add(1)
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", fmt.Sprintf("127.1.%d.%d:0", n/200, n%200+1))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Launch starts all members, with the data of their previous run if there is any.
func (e *Cluster) Launch(t *testing.T) {
	t.Helper()
	for i := range e.members {
		e.startMember(t, i)
	}
	for i := range e.members {
		e.awaitMember(t, i)
	}
}

// LaunchMember is Launch for a single member that was killed.
func (e *Cluster) LaunchMember(t *testing.T, i int) {
	t.Helper()
	e.startMember(t, i)
	e.awaitMember(t, i)
}

func (e *Cluster) startMember(t *testing.T, i int) {
	t.Helper()
	e.processes[i] = bed.StartHelper(t, Role)
	e.processes[i].Tell(t, e.members[i])
	e.members[i].Existing = true
}

func (e *Cluster) awaitMember(t *testing.T, i int) {
	t.Helper()
	var ready bool
	e.processes[i].Hear(t, &ready)
}

// Kill ends all members without a word.
func (e *Cluster) Kill() {
	for i := range e.processes {
		e.KillMember(i)
	}
}

// KillMember is Kill for a single member.
func (e *Cluster) KillMember(i int) { e.processes[i].Stop() }

// Freeze stops all members: their connections stay, and nothing answers.
func (e *Cluster) Freeze(t *testing.T) { e.signalAll(t, syscall.SIGSTOP) }

// Thaw lets them go on.
func (e *Cluster) Thaw(t *testing.T) { e.signalAll(t, syscall.SIGCONT) }

func (e *Cluster) signalAll(t *testing.T, s syscall.Signal) {
	t.Helper()
	for i := range e.processes {
		e.SignalMember(t, i, s)
	}
}

// SignalMember stops or continues a single member.
func (e *Cluster) SignalMember(t *testing.T, i int, s syscall.Signal) {
	t.Helper()
	e.processes[i].Signal(t, s)
}

// Endpoints are where hubs reach the members.
func (e *Cluster) Endpoints() []string {
	var all []string
	for _, m := range e.members {
		all = append(all, m.Clients)
	}
	return all
}

// Dial returns a plain client of etcd, which is closed with the test.
func (e *Cluster) Dial(t *testing.T) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(
		clientv3.Config{Endpoints: e.Endpoints(), DialTimeout: bed.CallLimit, Logger: zap.NewNop()},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}
