package testkit

import (
	"os"
	"strings"
)

// ClearVariables unsets the environment variables of connhub in this process, so that those of the
// environment of the tests don't reach the commands.
func ClearVariables() {
	for _, pair := range os.Environ() {
		if name, _, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "CONNHUB_") {
			_ = os.Unsetenv(name)
		}
	}
}
