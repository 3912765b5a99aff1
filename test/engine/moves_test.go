//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

const (
	// movers is the number of connections that a hub moves to another in a round. Each round has
	// hubs of its own, because a hub drains once.
	movers = 2000
	// moveRounds is small, because each round starts two hubs and an etcd.
	moveRounds = 3
	// unconfirmed is the number of messages that wait for the client's confirmation.
	unconfirmed = 100
	// drainTarget bounds the drain of a hub with the audience, in seconds.
	drainTarget = 10
)

// measureMoves measures moves of reliable clients' connections from a hub that drains, beside the
// connects of the same clients. CPU is that of both hubs. Clients leave when the hub closes their
// links, and do not come back.
func measureMoves() ([]row, error) {
	var rows []row
	for _, tail := range []int{0, unconfirmed} {
		var took [2][]time.Duration
		for range moveRounds {
			m, err := moveAll(2, movers, tail)
			if err != nil {
				return nil, err
			}
			took[0], took[1] = append(took[0], m.moved), append(took[1], m.connected)
		}
		rows = append(rows, ratio(fmt.Sprintf("a move with %d messages / a connect", tail), movers,
			took[:], 0))
	}
	for _, tail := range []int{0, unconfirmed} {
		m, err := moveAll(3, audience, tail)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{
			Name: fmt.Sprintf("5,000 with %d messages to two hubs", tail),
			Ours: micros(m.moved, audience), Beside: micros(m.connected, audience),
			Value: m.drained.Seconds(), Unit: "s", Target: drainTarget,
		})
	}
	return rows, nil
}

// moves are the costs of the clients of a hub that drains.
type moves struct {
	connected, moved time.Duration // CPU of all hubs
	drained          time.Duration // by the wall clock
}

// moveAll starts hubs, connects clients to the first, and drains it. tail is the number of messages
// that each client has not confirmed.
func moveAll(hubs, clients, tail int) (m moves, err error) {
	c, err := startCluster(hubs, "--drain-delay", "0s", "--drain-period", "1m")
	if err != nil {
		return m, err
	}
	b, err := c.newBed()
	if err != nil {
		return m, err
	}
	leaving, protocol, clock := c.hubs[0], reliable{}, cpuOf(c.hubs...)
	began := clock()
	if _, err := b.order(order{Open: &opening{
		Address: leaving.Clients, Path: clientPath(), Count: clients,
		Header: "Sec-WebSocket-Protocol: " + webpubsub.NameReliableJSON + "\r\n",
	}}); err != nil {
		return m, err
	}
	if err := b.drain(clients, protocol.greeting()); err != nil {
		return m, err
	}
	settle()
	m.connected = clock() - began
	if tail > 0 {
		if err := b.calling(call{
			Address: leaving.Control, Count: tail, Batch: tail, InFlight: 1, Text: string(text),
			Groups: []string{shared}, Matched: clients,
		}, clients, len(protocol.frames(1, tail))).measured(); err != nil {
			return m, err
		}
	}
	if _, err := b.order(order{Leave: true}); err != nil {
		return m, err
	}
	settle()
	began = clock()
	if err := leaving.drain(clients); err != nil {
		return m, err
	}
	settle()
	m.moved, m.drained = clock()-began, <-leaving.drained
	return m, errors.Join(b.load.stop(), c.stop())
}

// drain drains the hub, which must move so many connections.
func (b *blackBox) drain(clients int) error {
	conn, err := grpc.NewClient(
		b.Control, grpc.WithTransportCredentials(insecure.NewCredentials()),
	)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(background, "authorization", "Bearer "+secret)
	stream, err := controlv1.NewHubServiceClient(conn).DrainHub(
		ctx, &controlv1.DrainHubRequest{HubId: b.Hub},
	)
	if err != nil {
		return err
	}
	var last *controlv1.DrainHubResponse
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		last = r
	}
	if last.GetMoved() != int64(clients) || last.GetClosed() != 0 {
		return fmt.Errorf("drain of %d connections: %v", clients, last)
	}
	return nil
}
