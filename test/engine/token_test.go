//go:build bench && linux

package engine

import (
	"errors"
	"fmt"
	"time"
)

const (
	// connectTokenTarget bounds a handshake with its token, in handshakes of net/http and Accept.
	connectTokenTarget = 1.0
	// idleTokenTarget bounds the memory of an idle client with a token, in KB.
	idleTokenTarget = 4.0
)

// plainClients is the metric of the clients that the binary holds.
const plainClients = `connhub_connections{protocol="plain"}`

// measureConnectToken measures handshakes as operators have them, beside the same reference as
// measureConnect: the binary checks a token, which gives the client its user and its group. Each
// client has a token that the hub has not seen.
func measureConnectToken() ([]row, error) {
	tokens, err := newIssuer()
	if err != nil {
		return nil, err
	}
	shipped, err := tokens.serve()
	if err != nil {
		return nil, err
	}
	defer shipped.kill()
	l, err := listen()
	if err != nil {
		return nil, err
	}
	plainly, active := l.Addr().String(), serveAccept(l)
	b, err := newEmptyBed(shipped)
	if err != nil {
		return nil, err
	}
	algorithms := []string{hs256, es256, rs256}
	signed := map[string][]string{}
	for _, algorithm := range algorithms {
		if signed[algorithm], err = tokens.sign(algorithm, (pairs+1)*newcomers); err != nil {
			return nil, err
		}
	}
	if _, err := b.order(order{Tokens: signed}); err != nil {
		return nil, err
	}
	clear(signed)
	if _, err := resident(); err != nil { // with their memory the reference would collect rarely
		return nil, err
	}
	variants := []variant{b.connecting(
		opening{Address: plainly, Path: clientPath()}, func() int { return int(active.Load()) },
	)}
	for _, algorithm := range algorithms {
		variants = append(variants, b.admitted(shipped, algorithm))
	}
	took, err := rounds(cpu(shipped), pairs, variants...)
	if err != nil {
		return nil, err
	}
	var rows []row
	for i, algorithm := range algorithms {
		beside, target := [][]time.Duration{took[1+i], took[0]}, 0.0
		if algorithm == hs256 {
			target = connectTokenTarget
		}
		rows = append(rows, ratio(
			"connect, "+algorithm+" / net/http and Accept", newcomers, beside, target,
		))
	}
	return rows, b.load.stop()
}

// admitted is a round in which newcomers with tokens connect to the binary. Afterwards they close.
// The binary's own count is read outside of the round, because reading it costs CPU.
func (b *bed) admitted(shipped *blackBox, algorithm string) variant {
	o := opening{Address: shipped.Clients, Path: tokenPath, Tokens: algorithm, Count: newcomers}
	holds := func(want int) error {
		var failed error
		err := eventually(fmt.Sprintf("%d clients", want), func() bool {
			held, err := shipped.metrics(plainClients)
			failed = err
			return err != nil || held[0] == float64(want)
		})
		return errors.Join(err, failed)
	}
	return variant{
		measured: func() error {
			_, err := b.order(order{Open: &o})
			settle()
			return err
		},
		after: func() error {
			if err := holds(newcomers); err != nil {
				return err
			}
			if _, err := b.order(order{Close: true}); err != nil {
				return err
			}
			err := holds(0)
			settle()
			return err
		},
	}
}

// measureIdleToken measures the same as measureBinaryIdle for clients as operators have them: each
// comes with a token, is a user of its own and is in the group of all clients.
func measureIdleToken() ([]row, error) {
	tokens, err := newIssuer()
	if err != nil {
		return nil, err
	}
	shipped, err := tokens.serve("--ping-interval", heartbeat.String())
	if err != nil {
		return nil, err
	}
	defer shipped.kill()
	b, err := newEmptyBed(shipped)
	if err != nil {
		return nil, err
	}
	signed, err := tokens.sign(hs256, silent)
	if err != nil {
		return nil, err
	}
	if _, err := b.order(order{Tokens: map[string][]string{hs256: signed}}); err != nil {
		return nil, err
	}
	return b.idleBinary(shipped, idleTokenTarget, func() error {
		_, err := b.order(order{Open: &opening{
			Address: shipped.Clients, Path: tokenPath, Tokens: hs256, Count: silent,
		}})
		return err
	})
}
