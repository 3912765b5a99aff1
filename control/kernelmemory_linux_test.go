package control

import (
	"bytes"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/connhub/connhub/control/port"
	"github.com/connhub/connhub/internal/testkit"
)

// Answers that a backend does not read wait in the hub, where budgets see them, and not in the
// kernel.
func TestKernelKeepsLittleForABackendThatDoesNotRead(t *testing.T) {
	f := newFixture(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.serveOn(t, l)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := &rawCaller{Conn: conn}
	if err := c.greetWithLargeWindows(); err != nil {
		t.Fatal(err)
	}
	stream, err := c.begin(
		reflectionv1.ServerReflection_ServerReflectionInfo_FullMethodName, "Bearer "+backendSecret,
	)
	if err != nil {
		t.Fatal(err)
	}
	ask, err := proto.Marshal(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{
			FileContainingSymbol: "connhub.control.v1.DeliveryService",
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	message := append([]byte{0, 0, 0, 0, byte(len(ask))}, ask...)
	for range 1000 { // answers of some 10 MB
		if err := c.framer.WriteData(stream, false, message); err != nil {
			t.Fatal(err)
		}
	}
	most, same := 0, 0
	testkit.Eventually(t, "the hub writes no more", func() bool {
		now, open := kernelHas(t, conn)
		// the caller has read nothing for port.PingTimeout: so it is with gRPC's TCP_USER_TIMEOUT
		if !open {
			return true
		}
		if now > most || now == 0 {
			most, same = now, 0
		} else {
			same++
		}
		return same > 20
	})
	const inFlight = 320 << 10 // the caller's kernel takes so much without acknowledging it
	if most > port.UnsentBytes+inFlight || most == 0 {
		t.Errorf("the kernel keeps %d bytes, want at most %d", most, port.UnsentBytes+inFlight)
	}
	_ = conn.Close()
}

// greetWithLargeWindows grants the largest windows, so that none holds the hub back.
func (c *rawCaller) greetWithLargeWindows() error {
	c.prepare()
	if _, err := c.Write([]byte(http2.ClientPreface)); err != nil {
		return err
	}
	if err := c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: math.MaxInt32},
	); err != nil {
		return err
	}
	return c.framer.WriteWindowUpdate(0, math.MaxInt32-1<<16)
}

// kernelHas returns how many bytes the kernel keeps on the hub's end of a caller's connection: to
// be sent or to be confirmed. False: that end is closed.
func kernelHas(t *testing.T, caller net.Conn) (unsent int, open bool) {
	t.Helper()
	table, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		t.Fatal(err)
	}
	hubs, callers := caller.RemoteAddr().(*net.TCPAddr).Port, caller.LocalAddr().(*net.TCPAddr).Port
	for line := range bytes.Lines(table) {
		fields := strings.Fields(string(line))
		if strings.HasSuffix(fields[1], fmt.Sprintf(":%04X", hubs)) && strings.HasSuffix(
			fields[2], fmt.Sprintf(":%04X", callers),
		) {
			if _, err := fmt.Sscanf(fields[4], "%x:", &unsent); err != nil {
				t.Fatal(err)
			}
			return unsent, true
		}
	}
	return 0, false
}
