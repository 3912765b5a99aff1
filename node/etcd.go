package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"syscall"
	"time"

	"github.com/connhub/connhub/discovery/embedded"
)

// etcdStartLimit bounds the start of etcd. etcd needs half a second; the limit is for a busy disk.
const etcdStartLimit = 30 * time.Second

// startEtcd starts etcd, and returns when it answers.
func startEtcd(
	ctx context.Context, c embedded.Config, logger *slog.Logger,
) (*embedded.Etcd, error) {
	c.Logger = logger
	ctx, cancel := context.WithTimeout(ctx, etcdStartLimit)
	defer cancel()
	etcd, err := embedded.Start(ctx, c)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, takenError{fmt.Errorf("can't listen: --etcd-listen %s: %s", c.ClientAddress,
			listenWords(syscall.EADDRINUSE))}
	case errors.Is(err, embedded.ErrInUse):
		return nil,
			takenError{fmt.Errorf("--data-dir: the etcd in %s runs already: join it with --join "+
				"HOST:PORT, or name another folder", c.Dir)}
	}
	return etcd, err
}
