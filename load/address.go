package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
)

// perSource is the number of clients that share an address of this machine. Two addresses can have
// 28,000 connections between them on Linux, and 16,000 on other systems. Ports that were in use
// during the last minute are not free.
const perSource = 20_000

// target is the address to which the clients of a host connect.
type target struct {
	address string // an IP with a port
	ip      netip.Addr
}

// targets resolves each host once. It is safe for concurrent use.
type targets struct {
	mu    sync.Mutex
	known map[string]target
}

// resolveTarget returns the target of u. It holds the lock during a look-up, so that concurrent
// clients of the same host wait for a single look-up.
func (t *targets) resolveTarget(ctx context.Context, u *url.URL) (target, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	key := u.Scheme + "://" + u.Host
	if to, ok := t.known[key]; ok {
		return to, nil
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ws": "80", "wss": "443"}[u.Scheme]
	}
	if port == "" || u.Hostname() == "" {
		return target{}, errors.New("its URL must begin with ws:// or wss:// and a host")
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", u.Hostname())
	if err != nil {
		return target{}, err
	}
	ip := ips[0].Unmap()
	to := target{address: net.JoinHostPort(ip.String(), port), ip: ip}
	t.known[key] = to
	return to, nil
}

// sourceOf returns the address from which client i of n connects. Nil leaves the choice to the
// system. Only on loopback does a machine have enough addresses: 127.0.0.2, 127.0.0.3 and so on.
func sourceOf(i, n int, to netip.Addr) net.Addr {
	block := i / perSource
	if n <= perSource || block == 0 || !to.Is4() || !to.IsLoopback() {
		return nil
	}
	last := block + 1 // the system chooses 127.0.0.1 by itself
	return &net.TCPAddr{IP: net.IPv4(127, 0, byte(last>>8), byte(last))}
}

// spareSource returns an address between 127.255.0.1 and 127.255.0.200. sourceOf returns none of
// them for less than a billion clients.
func spareSource() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 255, 0, byte(1+rand.IntN(200)))}
}

// dialError adds advice to errors that come from a machine's limits.
func dialError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this machine has no port left to connect from: %w", err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w: %w", ErrFileLimit, err)
	}
	return err
}
