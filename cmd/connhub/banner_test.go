package main

import (
	"strings"
	"testing"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/node"
)

func TestTheBannerIsAligned(t *testing.T) {
	testkit.CompareGolden(t, "banner.txt", strings.ReplaceAll(terminaltest.Render(false, func(
		t *terminal.Terminal,
	) {
		printBanner(t,
			node.Addresses{
				Clients: "127.0.0.1:8080", Control: "127.0.0.1:9090", Ops: "127.0.0.1:9100",
			}, false, "",
		)
		printBanner(t,
			node.Addresses{
				Clients: "127.0.0.1:40001", Control: "127.0.0.1:40002", Ops: "127.0.0.1:40003",
			}, true, "",
		)
	}), build.Version(), "VERSION"))
}
