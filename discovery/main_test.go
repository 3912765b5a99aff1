package discovery_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/connhub/connhub/discovery/embedded"
)

// shared is the etcd of all tests that do not stop or change it. Each test has a prefix of its own.
var shared *embedded.Etcd

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "discovery")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	config := embedded.DefaultConfig()
	config.Dir, config.ClientAddress = dir, "127.0.0.1:0"
	config.NoSync = true
	if shared, err = embedded.Start(context.Background(), config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	shared.Close()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}
