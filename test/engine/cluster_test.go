//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"os"

	"github.com/connhub/connhub/discovery/embedded"
)

// cluster is a number of binaries, all on the hub's core, with their etcd. Their CPU times are
// summed.
type cluster struct {
	hubs []*blackBox
	etcd *child
}

// serveEtcd runs the role "etcd". It answers with the address of etcd.
func serveEtcd() error {
	config := embedded.DefaultConfig()
	dir, err := os.MkdirTemp("", "connhub-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	config.Dir, config.ClientAddress, config.NoSync = dir, "127.0.0.1:0", true
	etcd, err := embedded.Start(background, config)
	if err != nil {
		return err
	}
	defer etcd.Close()
	return answerLines(func(bool) (any, error) { return etcd.Endpoint(), nil })
}

// startCluster starts that many hubs, with further flags, and returns when each hub knows the
// interests of all its peers.
func startCluster(size int, flags ...string) (*cluster, error) {
	c := &cluster{}
	var err error
	if c.etcd, err = startChild(etcdRole, loadCore); err != nil {
		return nil, err
	}
	var endpoint string
	if err := c.etcd.ask(true, &endpoint); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "connhub-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file, err := secretFile(dir, peerSecret)
	if err != nil {
		return nil, err
	}
	for range size {
		hub, err := startBinary(append([]string{
			"--etcd-endpoints", endpoint, "--peer-secret-file", file,
		}, flags...)...)
		if err != nil {
			return nil, err
		}
		c.hubs = append(c.hubs, hub)
	}
	return c, c.settle()
}

// peerSecret is the secret with which hubs call each other.
const peerSecret = "a-secret-of-hubs-that-call-each-other"

// settle waits until no hub has to forward everything to a peer.
func (c *cluster) settle() error {
	for _, hub := range c.hubs {
		var failed error
		err := eventually("leases", func() bool {
			leases, err := hub.metrics("connhub_mesh_leases")
			failed = err
			return err != nil || leases[0] == float64(len(c.hubs)-1)
		})
		if err != nil || failed != nil {
			return fmt.Errorf("hub at %s: %w", hub.Ops, errors.Join(err, failed))
		}
		// the hubs have dialed each other by now
		if err := renoOf(hub.command.Process); err != nil {
			return err
		}
	}
	return nil
}

// stop ends all processes.
func (c *cluster) stop() error {
	for _, hub := range c.hubs {
		hub.kill()
	}
	return c.etcd.stop()
}
