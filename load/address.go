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

// perSource is how many clients share one address of this machine. Between two addresses there are 28,000 connections on
// Linux and 16,000 on others, and ports that were in use a minute ago are not free.
const perSource = 20_000

// target is where the clients of one host connect.
type target struct {
	address string // with an IP
	ip      netip.Addr
}

// targets looks each host up once.
type targets struct {
	mu    sync.Mutex
	known map[string]target
}

func (t *targets) of(ctx context.Context, u *url.URL) (target, error) {
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

// sourceOf returns the address from which client i of n connects; nil: the system's choice. Only on loopback has a machine
// as many as it likes: 127.0.0.2, 127.0.0.3 and so on.
func sourceOf(i, n int, to netip.Addr) net.Addr {
	block := i / perSource
	if n <= perSource || block == 0 || !to.Is4() || !to.IsLoopback() {
		return nil
	}
	last := block + 1 // 127.0.0.1 is the system's own choice
	return &net.TCPAddr{IP: net.IPv4(127, 0, byte(last>>8), byte(last))}
}

// spareSource is one of 200 more addresses: 127.255.0.1 to 127.255.0.200, which sourceOf comes to only with a billion clients.
func spareSource() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 255, 0, byte(1+rand.IntN(200)))}
}

// dialError says what to do about errors of a machine's limits.
func dialError(err error) error {
	switch {
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("this machine has no port left to connect from: %w", err)
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		return fmt.Errorf("%w: %w", ErrFileLimit, err)
	}
	return err
}
