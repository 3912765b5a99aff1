package chaos

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/relay"
)

// drainPeriod is the time of a drain. In its last quarter the hub closes the resumable clients that
// it has not moved, so a busy machine must be able to move all of them before.
func drainPeriod() time.Duration { return time.Duration(bed.Either(3, 10)) * time.Second }

// place is a place of hubs, which run there in turn. The relays to clients and to etcd stay. The
// relay to peers belongs to a hub.
type place struct {
	number  int
	host    string // all its own
	clients *relay.Relay
	toEtcd  []*relay.Relay

	next *hub // it is not ready yet; nil: none. Owned by the test's goroutine

	mu  sync.Mutex
	now *hub // that calls and handshakes go to; it may have ended
}

// hub is a process at a place.
type hub struct {
	*bed.Process

	peers    *relay.Relay
	backends []*grpc.ClientConn // by number of the caller
}

// current returns the hub that calls and handshakes go to.
func (p *place) current() *hub {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// launch starts the next hub at a place: a new id, and new addresses. No client or caller gets
// there before openNext.
func (r *run) launch(p *place) {
	r.t.Helper()
	h := &hub{peers: relay.Start(r.t, p.host)}
	var endpoints []string
	for _, e := range p.toEtcd {
		endpoints = append(endpoints, e.Address)
	}
	h.Process = bed.Start(r.t,
		"serve", "--name", fmt.Sprint("hub-", p.number+1),
		"--listen-clients", p.host+":0", "--listen-control", p.host+":0",
		"--listen-ops", p.host+":0", "--advertise-control", h.peers.Address,
		"--public-url", publicURL,
		"--token-key-file", filepath.Join(r.dir, "token.key"),
		"--backend-secret-file", filepath.Join(r.dir, "backend.secrets"),
		"--peer-secret-file", filepath.Join(r.dir, "peer.secrets"),
		"--etcd-endpoints", strings.Join(endpoints, ","),
		"--drain-delay", "200ms", "--drain-period", drainPeriod().String(),
		// Clients may stay away for long while the machine is busy.
		"--resume-window", "10m", "--log-level", "debug",
	)
	h.Await(r.t, h.Bound)
	h.peers.Connect(h.Control)
	for _, secret := range r.secrets {
		h.backends = append(h.backends, bed.DialControl(
			r.t, h.Control, grpc.WithPerRPCCredentials(bearer(secret)),
		))
	}
	p.next = h
}

// openNext lets clients and callers reach the next hub of a place when it is ready.
func (r *run) openNext(p *place) {
	r.t.Helper()
	p.next.Await(r.t, p.next.Ready)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now, p.next = p.next, nil
	p.clients.Connect(p.now.Clients)
	h := p.now
	r.reading.Go(func() { r.watchEvents(r.life, h) })
}

// openReady is openNext for the places whose next hub is ready. It returns the open places.
func (r *run) openReady() (open []*place) {
	r.t.Helper()
	for _, p := range r.places {
		if p.next != nil {
			select {
			case <-p.next.Ready:
				r.openNext(p)
			default:
				continue
			}
		}
		open = append(open, p)
	}
	return open
}

// pickOpen returns the first open place from a number on. It waits until there are two.
func (r *run) pickOpen(number int) *place {
	r.t.Helper()
	for i := 0; len(r.openReady()) < 2; i++ {
		if p := r.places[i]; p.next != nil {
			r.openNext(p)
		}
	}
	for i := range r.places {
		if p := r.places[(number+i)%len(r.places)]; p.next == nil {
			return p
		}
	}
	return nil // two are open
}

// peersOf returns a hub's knowledge of all hubs, by id. Nil: it does not answer.
func (h *hub) peersOf(ctx context.Context) map[string]*controlv1.Hub {
	response, err := controlv1.NewHubServiceClient(h.backends[0]).ListHubs(
		ctx, &controlv1.ListHubsRequest{},
	)
	if err != nil {
		return nil
	}
	byID := make(map[string]*controlv1.Hub)
	for _, known := range response.GetHubs() {
		byID[known.GetId()] = known
	}
	return byID
}

// bearer is the secret of a backend.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return false }
