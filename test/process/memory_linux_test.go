//go:build !race

package process

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// dialDeaf connects a client that never reads, and whose kernel takes little for it.
func dialDeaf(t *testing.T, address, query string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	if _, err := fmt.Fprintf(conn, "GET /ws?%s HTTP/1.1\r\nHost: %s\r\nConnection: "+
		"Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", query,
		address); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64)
	if n, err := conn.Read(answer); err != nil || !strings.HasPrefix(
		string(answer[:n]), "HTTP/1.1 101",
	) {
		t.Fatalf("%q, %v", answer[:n], err)
	}
}

// peakMemory returns the most memory that a process has ever had resident, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		t.Fatalf("VmHWM: %v", err)
	}
	return kib << 10
}

// The limits of deploy/k8s/base: 512 MiB for the container, and 460 MiB of them for Go.
// The race detector multiplies memory, so `make test` runs this test without it.
func TestAHubTakesLessThanASmallContainerHasForSlowClients(t *testing.T) {
	const (
		container = 512 << 20
		clients   = 200
		// of 1 MiB each to every client, none of them shared: more than its outbox, and 1 GB in all
		messages = 5
	)
	command := bed.Command(t, bed.InsecureArgs("--log-format=json")...)
	command.Env = append(command.Environ(), "GOMEMLIMIT=460MiB")
	p := bed.StartCommand(t, command)
	p.Await(t, p.Ready)
	for i := range clients {
		dialDeaf(t, p.Clients, fmt.Sprintf("user=u%d", i))
	}
	delivery := controlv1.NewDeliveryServiceClient(testkit.DialControl(t, p.Control))
	payload := bytes.Repeat([]byte("x"), 1<<20)
	jobs := make(chan int)
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for i := range jobs {
				if _, err := delivery.Send(t.Context(), &controlv1.SendRequest{
					Target: &controlv1.Target{Users: []string{fmt.Sprintf("u%d", i%clients)}},
					Message: &controlv1.Message{
						Payload: &controlv1.Message_Binary{Binary: payload},
					},
				}); err != nil {
					t.Errorf("send %d: %v", i, err)
				}
			}
		})
	}
	for i := range clients * messages {
		jobs <- i
	}
	close(jobs)
	senders.Wait()
	peak := peakMemory(t, p.PID())
	t.Logf("peak of resident memory: %d MiB", peak>>20)
	if peak >= container {
		t.Errorf("the hub took %d MiB, want less than %d", peak>>20, container>>20)
	}
	response, err := http.Get("http://" + p.Ops + "/readyz")
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("readyz: %v, %v", response, err)
	}
	_ = response.Body.Close()
}
