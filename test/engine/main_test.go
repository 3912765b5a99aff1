//go:build bench && linux

package engine

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/connhub/connhub/node/limits"
)

// runs is the number of measurements of each figure, each in processes of its own.
var runs = flag.Int("runs", 3, "runs, of which the one in the middle counts")

// background is the context of all calls: everything ends with the process.
var background = context.Background()

// The roles of this program besides that of the tests.
const (
	hubRole  = "hub"
	loadRole = "load"
	etcdRole = "etcd"
)

func TestMain(m *testing.M) {
	roles := map[string]func() error{
		hubRole: func() error {
			// As in the binary. The references of this process have it too.
			defer limits.KeepHeapFloor(limits.DefaultHeapConfig()).Close()
			return answerLines(func(name string) (any, error) { return figures[name]() })
		},
		loadRole: serveLoad,
		etcdRole: serveEtcd,
	}
	role, ok := roles[os.Getenv(roleVariable)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := role(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// figures has the measurements by the names of their tests.
var figures = map[string]func() ([]row, error){
	"TestFanout":        measureFanout,
	"TestBurst":         measureBurst,
	"TestReliable":      measureReliable,
	"TestUnicast":       measureUnicast,
	"TestSlow":          measureSlow,
	"TestConnect":       measureConnect,
	"TestIdle":          measureIdle,
	"TestIdleGoroutine": measureIdleGoroutine,
	"TestIdleTLS":       measureIdleTLS,

	"TestLinksGoroutine": measureLinksGoroutine,
	"TestLinksTLS":       measureLinksTLS,

	"TestLatency":       measureLatency,
	"TestForwarded":     measureForwarded,
	"TestBroadcast":     measureBroadcast,
	"TestCompression":   measureCompression,
	"TestBinary":        measureBinary,
	"TestBinaryUnicast": measureBinaryUnicast,
	"TestBinaryIdle":    measureBinaryIdle,
	"TestConnectToken":  measureConnectToken,
	"TestIdleToken":     measureIdleToken,

	"TestShapesUnicast":   measureShapesUnicast,
	"TestShapesGroup":     measureShapesGroup,
	"TestShapesForwarded": measureShapesForwarded,
	"TestRates":           measureRates,
	"TestHeapFloor":       measureHeapFloor,
	"TestMoves":           measureMoves,
}

func TestFanout(t *testing.T)        { measure(t, "fan-out of 128 bytes to 5,000") }
func TestBurst(t *testing.T)         { measure(t, "bursts of 128 bytes to 5,000") }
func TestReliable(t *testing.T)      { measure(t, "messages to 5,000 reliable Web PubSub clients") }
func TestUnicast(t *testing.T)       { measure(t, "128 bytes to one of 1,000") }
func TestSlow(t *testing.T)          { measure(t, "1 % of 5,000 stopped reading") }
func TestConnect(t *testing.T)       { measure(t, "a client that connects") }
func TestIdle(t *testing.T)          { measure(t, "15,000 idle clients") }
func TestIdleGoroutine(t *testing.T) { measure(t, "15,000 idle clients, a goroutine for each") }
func TestIdleTLS(t *testing.T)       { measure(t, "15,000 idle clients under TLS") }

func TestCompression(t *testing.T) { measure(t, "1 KiB to 5,000, compressed") }

func TestLinksGoroutine(t *testing.T) { measure(t, "fan-out to 5,000 with a goroutine each") }
func TestLinksTLS(t *testing.T)       { measure(t, "fan-out to 5,000 under TLS") }

func TestLatency(t *testing.T)       { measure(t, "from a call to the client, p50, p99") }
func TestForwarded(t *testing.T)     { measureShipped(t, "128 bytes through another hub") }
func TestBroadcast(t *testing.T)     { measureShipped(t, "128 bytes to everyone, 5,000") }
func TestBinary(t *testing.T)        { measureShipped(t, "the binary, 128 bytes to 5,000") }
func TestBinaryUnicast(t *testing.T) { measureShipped(t, "the binary, 128 bytes to one of 1,000") }
func TestBinaryIdle(t *testing.T)    { measureShipped(t, "the binary, 15,000 idle clients") }
func TestConnectToken(t *testing.T)  { measureShipped(t, "the binary, a token and a group") }
func TestIdleToken(t *testing.T)     { measureShipped(t, "the binary, 15,000 idle with a token") }

func TestShapesUnicast(t *testing.T)   { measureShipped(t, "a send a request, to one of 1,000") }
func TestShapesGroup(t *testing.T)     { measureShipped(t, "a send a request, to 5,000") }
func TestShapesForwarded(t *testing.T) { measureShipped(t, "a send a request, to another hub") }
func TestRates(t *testing.T)           { measureShipped(t, "from a due send to its client") }
func TestHeapFloor(t *testing.T)       { measureShipped(t, "with a heap floor / Go's own floor") }
func TestMoves(t *testing.T)           { measureShipped(t, "clients of a hub that drains") }

// measure runs the figure of this test as often as asked, and prints its table.
func measure(t *testing.T, title string) {
	if *runs < 1 {
		t.Fatalf("%d runs", *runs)
	}
	all, err := allowed()
	if err != nil {
		t.Fatal(err)
	}
	if all.count() < 2 {
		fmt.Println("one core only: the load's work disturbs the hub's")
	}
	var results [][]row
	for range *runs {
		results = append(results, runOnce(t))
	}
	tabulate(os.Stdout, title, results)
}

// runOnce measures in a new process.
func runOnce(t *testing.T) []row {
	t.Helper()
	h, err := startChild(hubRole, hubCore)
	if err != nil {
		t.Fatal(err)
	}
	var rows []row
	if err := h.ask(t.Name(), &rows); err != nil {
		t.Error(err)
	}
	if err := h.stop(); err != nil || t.Failed() {
		t.Fatal(err)
	}
	return rows
}
