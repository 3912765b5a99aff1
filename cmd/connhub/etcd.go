package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"syscall"
	"time"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/discovery/embedded"
	"github.com/connhub/connhub/internal/build"
)

// This file is etcd inside the process of `dev`, the only command that starts it. A binary built
// with -tags no_embedded_etcd, as the container image is, has no etcd to start.

// checkEtcdIncluded refuses a `dev` that would start etcd if this binary has none.
func checkEtcdIncluded(join string) error {
	if build.HasEtcd || join != "" {
		return nil
	}
	return terminal.UsageErrorf("this binary was built without the etcd that dev starts" +
		" (-tags no_embedded_etcd): use connhub serve," +
		" or join the etcd of another hub with --join HOST:PORT")
}

// etcdStartLimit bounds the start of etcd. etcd needs half a second; the limit is for a busy disk.
const etcdStartLimit = 30 * time.Second

// embeddedEtcd returns the configuration of the etcd inside a `dev` without --join.
func embeddedEtcd(dataDir, address string) *embedded.Config {
	c := embedded.DefaultConfig()
	c.Dir, c.ClientAddress = filepath.Join(dataDir, "etcd"), address
	return &c
}

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
