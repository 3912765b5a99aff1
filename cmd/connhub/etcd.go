package main

import (
	"path/filepath"

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

// embeddedEtcd returns the configuration of the etcd inside a `dev` without --join.
func embeddedEtcd(dataDir, address string) *embedded.Config {
	c := embedded.DefaultConfig()
	c.Dir, c.ClientAddress = filepath.Join(dataDir, "etcd"), address
	return &c
}
