package bench

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/connhub/connhub/cli"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	"github.com/connhub/connhub/internal/testkit"
)

func TestMain(m *testing.M) {
	testkit.ClearVariables()
	goleak.VerifyTestMain(m)
}

// program runs a command line in this process.
var program = terminaltest.NewProgram(func() any {
	return &struct {
		cli.Commands

		Bench Command `cmd:""`
	}{}
})
