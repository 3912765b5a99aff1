package node

import (
	"fmt"
	"log/slog"
	"net/url"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/node/certificate"
	"github.com/connhub/connhub/node/limits"
	"github.com/connhub/connhub/node/logging"
)

// Config is the checked configuration of a hub process. DefaultConfig is the base of each. Listen
// addresses, Hub.Name, Log and the way in for clients and backends must be set, and ShareFiles
// called.
type Config struct {
	Hub  hub.Config  // the core; New sets its Observers, Metrics and Interest
	Edge edge.Config // the clients' port; New sets its parts, and the fields that stand below

	Drain DrainConfig // how it leaves its clients

	WantConnections int           // the operator's --max-connections; 0: not given
	CallBytes       int64         // of control.Config
	Memory          limits.Memory // the limit of the process, for the log and metrics
	Heap            limits.HeapConfig

	ListenClients string   // host:port of the port for clients
	ListenControl string   // host:port of the port for backends and other hubs
	ListenOps     string   // host:port of the operations port
	PublicURL     *url.URL // the URL that clients see; nil: the clients' listen address

	TokenKeys       []*auth.TokenKey   // of clients; the first signs
	KeySet          *auth.KeySetConfig // nil: no public keys; without any key, Anonymous
	Secrets         *auth.Secrets      // nil: none, then InsecureControl
	OpsSecrets      *auth.Secrets      // nil: none, then the port is on loopback
	Anonymous       bool               // clients need no token
	InsecureControl bool               // callers need no secret
	LoopbackOnly    bool               // only pages of this machine are served
	Page            bool               // the console page at /

	ClientsTLS *certificate.Pair // of the clients' port; nil: no TLS
	ControlTLS *certificate.Pair // of the control port; nil: no TLS

	Cluster *ClusterConfig // nil: the only hub

	Reloads <-chan struct{} // each makes the hub read its files again; nil: none

	Log   *logging.Log    // of the process. It outlives the Node
	Ready func(Addresses) // called when the first hub serves clients; may be nil

	files    limits.Files
	restarts restarts // of this process so far
}

// DefaultConfig returns the defaults: those of the packages, and budgets and a heap floor that fit
// the memory limit of this process.
func DefaultConfig() Config {
	c := Config{
		Hub: hub.DefaultConfig(), Edge: edge.DefaultConfig(), Drain: DefaultDrainConfig(),
		Memory: limits.ReadMemory(),
	}
	c.Hub.ID = hub.NewID()
	c.SetBudgets(c.Memory.DefaultBudgets())
	c.Heap = c.Memory.DefaultHeap()
	return c
}

// SetBudgets sets the budgets of hub, edge and control.
func (c *Config) SetBudgets(b limits.Budgets) {
	c.Hub.HeldBytes, c.Hub.NamespaceHeldBytes = b.Held, b.NamespaceHeld
	c.Hub.RequestIDs = b.RequestIDs
	c.Edge.InboundBytes, c.CallBytes = b.Inbound, b.Calls
}

// Budgets returns the budgets of hub, edge and control.
func (c *Config) Budgets() limits.Budgets {
	return limits.Budgets{
		Held: c.Hub.HeldBytes, NamespaceHeld: c.Hub.NamespaceHeldBytes,
		Inbound: c.Edge.InboundBytes, Calls: c.CallBytes, RequestIDs: c.Hub.RequestIDs,
	}
}

// ShareFiles shares out the file descriptors of this process, and limits the clients to their
// share. Cluster must be set before. It returns an error if there are too few to run a hub.
func (c *Config) ShareFiles() error {
	limit, err := limits.FileLimit()
	if err != nil {
		return fmt.Errorf("the limit of file descriptors: %w", err)
	}
	etcdInside := c.Cluster != nil && c.Cluster.Embedded != nil
	if c.files, err = limits.ShareFiles(limit, etcdInside); err != nil {
		return err
	}
	c.Edge.MaxLinks, c.Edge.MaxStrangers = c.files.Links, c.files.Strangers
	return nil
}

// Addresses are the listen addresses of a hub, host:port each.
type Addresses struct {
	Clients string // of the port for clients
	Control string // of the port for backends and other hubs
	Ops     string // of the operations port
	Etcd    string // of the etcd inside this process; empty: there is none
}

// boundAddresses returns the addresses at which the hub listens.
func (s *server) boundAddresses() Addresses {
	a := Addresses{
		Clients: s.clientsListener.Addr().String(),
		Control: s.controlListener.Addr().String(),
		Ops:     s.opsListener.Addr().String(),
	}
	if s.cluster != nil && s.cluster.etcd != nil {
		a.Etcd = s.cluster.etcd.Endpoint()
	}
	return a
}

func (a Addresses) logAttributes() []any {
	return []any{
		slog.String("clients", a.Clients), slog.String("control", a.Control),
		slog.String("ops", a.Ops),
	}
}
