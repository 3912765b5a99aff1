package main

import (
	"github.com/connhub/connhub/cli/terminal"
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
