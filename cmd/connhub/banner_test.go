package main

import (
	"strings"
	"testing"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/internal/testkit"
)

func TestTheBannerIsAligned(t *testing.T) {
	testkit.CompareGolden(t, "banner.txt", strings.ReplaceAll(terminaltest.Render(false, func(
		t *terminal.Terminal,
	) {
		printBanner(t,
			addresses{"127.0.0.1:8080", "127.0.0.1:9090", "127.0.0.1:9100", ""}, false, "",
		)
		printBanner(t,
			addresses{"127.0.0.1:40001", "127.0.0.1:40002", "127.0.0.1:40003", ""}, true, "",
		)
	}), build.Version(), "VERSION"))
}
