package links

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/control"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/tally"
)

// closeLimit is how long a house may take to close.
const closeLimit = 20 * time.Second

// house is a hub with its two doors on loopback, in this process.
type house struct {
	hub      *hub.Hub
	registry *prometheus.Registry
	clients  string // address of the clients' door
	control  string // address of the backends' door
}

// openHouse opens a house. It closes and checks the house when the test ends. sendBuffer is the
// size of the kernel's buffer for a client, in bytes: small, so that slow clients have an effect
// soon.
func openHouse(t *testing.T, outbox hub.Bounds, sendBuffer int) *house {
	t.Helper()
	registry := prometheus.NewRegistry()
	hubConfig := hub.DefaultConfig()
	hubConfig.ID, hubConfig.Outbox, hubConfig.Metrics = hub.NewID(), outbox, registry
	h, err := hub.New(hubConfig)
	if err != nil {
		t.Fatal(err)
	}
	edgeConfig := edge.DefaultConfig()
	// A closed client gets all written messages, unless it is cut off for not reading in time: then
	// the reset discards the kernel's part, and receipts cannot know. Here the hub cuts off no
	// client, however busy the machine is.
	edgeConfig.CloseTimeout = bed.CallLimit
	// The hub gives up no client for its silence: slow clients answer no ping while the rest of the
	// test goes on.
	edgeConfig.PingInterval, edgeConfig.PongTimeout = time.Hour, time.Hour
	edgeConfig.Hub, edgeConfig.Anonymous, edgeConfig.LoopbackOnly = h, true, true
	edgeConfig.Plain, edgeConfig.Protocols = plain.Protocol{}, []edge.Protocol{envelope.Protocol{}}
	edgeConfig.Metrics = registry
	clients, err := edge.New(edgeConfig)
	if err != nil {
		t.Fatal(err)
	}
	controlConfig := control.Config{
		Hub: h, Insecure: true, Metrics: registry, CallBytes: control.DefaultConfig().CallBytes,
	}
	backends, err := control.New(controlConfig)
	if err != nil {
		t.Fatal(err)
	}

	doors := listen(t, sendBuffer)
	var serving sync.WaitGroup
	serving.Go(func() { bed.Report(t, clients.Serve(doors[0])) })
	serving.Go(func() { bed.Report(t, backends.Serve(doors[1])) })
	t.Cleanup(func() {
		bed.Report(t, h.CheckInvariants())
		ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
		defer cancel()
		bed.Report(t, h.Shutdown(ctx))
		bed.Report(t, clients.Shutdown(ctx))
		bed.Report(t, backends.Shutdown(ctx))
		serving.Wait()
		bed.Report(t, h.CheckInvariants())
	})
	return &house{h, registry, doors[0].Addr().String(), doors[1].Addr().String()}
}

// listen opens two listeners. An accepted socket inherits the buffer of its listener.
func listen(t *testing.T, sendBuffer int) [2]net.Listener {
	t.Helper()
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = syscall.SetsockoptInt(
				int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, sendBuffer,
			)
		})
		return errors.Join(err, failed)
	}}
	clients, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backends, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return [2]net.Listener{clients, backends}
}

// dial connects a member with its identity.
func (h *house) dial(t *testing.T, dialer net.Dialer) func(*tally.Member) (*bed.Client, error) {
	return func(m *tally.Member) (*bed.Client, error) {
		query := url.Values{"user": {m.User}, "group": m.Groups}
		path := "/client/hubs/" + m.Namespace + "?" + query.Encode()
		return bed.DialClient(t.Context(), dialer, h.clients, path, m.Protocol)
	}
}

// counter sums the samples of a counter: all of them, or those with a value of the label "reason".
func (h *house) counter(t *testing.T, name, reason string) int {
	t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, sample := range family.GetMetric() {
			for _, label := range sample.GetLabel() {
				if label.GetName() == "reason" && reason != "" && label.GetValue() != reason {
					sum -= sample.GetCounter().GetValue()
				}
			}
			sum += sample.GetCounter().GetValue()
		}
	}
	return int(sum)
}
