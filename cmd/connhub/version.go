package main

import (
	"fmt"
	"runtime"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/build"
)

type versionCmd struct{}

func (versionCmd) Run(t *terminal.Terminal) error {
	_, err := fmt.Fprintf(t.Stdout, "connhub %s (%s, %s/%s)\n",
		build.Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
