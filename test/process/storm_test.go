package process

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/connhub/connhub/test/bed"
)

// visitor is a client that connects, and comes back when it is told to.
type visitor struct {
	path     string
	conn     net.Conn // of the link, when the hub has admitted the client
	refusals int
}

// connect returns when the hub has admitted the client.
func (v *visitor) connect(ctx context.Context, address string) error {
	for {
		retry, err := v.ask(ctx, address)
		if err != nil || v.conn != nil {
			return err
		}
		v.refusals++
		select {
		case <-time.After(retry):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ask asks once. It returns the time of Retry-After if the hub refuses the client.
func (v *visitor) ask(ctx context.Context, address string) (retry time.Duration, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return 0, err
	}
	if _, err = io.WriteString(conn, bed.UpgradeRequest(address, v.path, "")); err == nil {
		retry, err = v.readAnswer(conn)
	}
	if v.conn == nil {
		_ = conn.Close()
	}
	return retry, err
}

func (v *visitor) readAnswer(conn net.Conn) (retry time.Duration, err error) {
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	_ = response.Body.Close()
	switch response.StatusCode {
	case http.StatusSwitchingProtocols:
		v.conn = conn
		return 0, nil
	case http.StatusServiceUnavailable:
		seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
		return time.Duration(seconds) * time.Second, err
	default:
		return 0, fmt.Errorf("answered %s", response.Status)
	}
}

// TestAStormOfClientsIsInAtTheTimeThatTheRateAllows has all clients of a hub connect at once, as
// behind a restart.
func TestAStormOfClientsIsInAtTheTimeThatTheRateAllows(t *testing.T) {
	t.Parallel()
	const (
		rate    = 100
		clients = 1000 // fewer than the strangers that a hub has at once: it drops none of them
		allowed = (clients - rate) * time.Second / rate
	)
	p := bed.StartAlone(t, fmt.Sprint("--connect-rate=", rate))
	meter, began := p.NewMeter(), time.Now()
	defer meter.Stop()
	visitors := make([]visitor, clients)
	var storm sync.WaitGroup
	for i := range visitors {
		storm.Go(func() {
			visitors[i].path = fmt.Sprint("/ws?user=u", i)
			if err := visitors[i].connect(t.Context(), p.Clients); err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		})
	}
	storm.Wait()
	took, limit := time.Since(began), meter.Limit(allowed*13/10)
	refused, again := 0, 0
	for i := range visitors {
		if conn := visitors[i].conn; conn != nil {
			defer func() { _ = conn.Close() }()
		}
		refused += min(1, visitors[i].refusals)
		again += max(0, visitors[i].refusals-1)
	}
	t.Logf("in after %v, the rate allows %v; %d clients were refused, and %d times again",
		took, allowed, refused, again)
	if took < allowed || took > limit {
		t.Errorf("in after %v, want %v to %v", took, allowed, limit)
	}
	if again > clients/20 {
		t.Errorf("clients that came when they were told to were refused %d times again", again)
	}
	held := p.Sum(t, "connhub_handshake_hold_seconds_count")
	if counted := p.Sum(t, "connhub_handshakes_total", `result="connect_rate"`); held == 0 ||
		counted != refused+again {
		t.Errorf("the hub counts %d held handshakes and %d refused, want %d refused",
			held, counted, refused+again)
	}
	if n := p.Sum(t, "connhub_links"); n != clients {
		t.Errorf("%d links, want %d", n, clients)
	}
}
