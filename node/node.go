package node

import (
	"context"
	"log/slog"
	"time"

	"github.com/connhub/connhub/node/limits"
)

// Node is a hub and the hubs that follow it in the same process, on the same ports.
type Node struct {
	config Config
	server *server // the first
}

// New binds the ports of a hub and joins its parts. It does not serve yet: Run must follow. It
// starts etcd if that is inside the process, which takes until etcd answers or ctx ends. The error
// is ErrTaken if another process has a port or the folder of etcd.
func New(ctx context.Context, c Config) (*Node, error) {
	s, err := newServer(ctx, c)
	if err != nil {
		return nil, err
	}
	return &Node{c, s}, nil
}

// Addresses returns the addresses at which the first hub listens.
func (n *Node) Addresses() Addresses { return n.server.boundAddresses() }

// Run serves until ctx ends, and takes the hub down. A forgotten hub is followed by another hub in
// its place, which joins the cluster at once or after a pause. Until Run ends, the heap of the
// process has its floor. Run must be called once.
func (n *Node) Run(ctx context.Context) error {
	defer limits.KeepHeapFloor(n.config.Heap).Close()
	plan, s := n.config, n.server
	for {
		began := time.Now()
		err := s.serveUntilDone(ctx, plan.Ready)
		switch {
		case !startsAnew(err):
			return err
		case ctx.Err() != nil:
			return nil // the process ends anyway
		case s.drain.hasBegun():
			return nil // another hub in its place would fill up
		}
		plan = s.planSuccessor(plan, err, time.Since(began))
		plan.Log.Warn("starting anew as another hub", slog.String("was", string(s.hub.ID())),
			slog.String("hub", string(plan.Hub.ID)),
			slog.Duration("pause", plan.restarts.nextPause()), slog.Any("cause", err))
		s, err = newServer(ctx, plan)
		switch {
		case err != nil && ctx.Err() != nil:
			return nil //nolint:nilerr // interrupted while etcd started
		case err != nil:
			return err
		}
	}
}
