package take

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/hub/transfer"
	"github.com/connhub/connhub/internal/config"
)

// Timeout bounds the wait of a client for its connection: several moves, because two clients may
// come with the same token. SDKs and proxies wait longer for an answer.
const Timeout = 5 * time.Second

// Taker fetches connections from their hubs, for clients that come back to this hub.
type Taker interface {
	// Take returns nil when the connection is at this hub, so that Hub.Resume finds it. The client
	// has shown token, which Take must prove before it moves anything. Take is called for made-up
	// ids and tokens, too, for a connection several times at once, and for a connection that is
	// here again meanwhile. ctx ends after Timeout, when the client hangs up, or at Takes.Close.
	//
	// Errors:
	//   - hub.ErrResumeRefused: the client can never have the connection back.
	//   - Any further error: no hub can tell yet, or the connection is on its way elsewhere. The
	//     client is told to ask again.
	Take(ctx context.Context, namespace string, id hub.ConnectionID, token string) error
}

// The errors of Await. All but ErrLeft pass: the client should ask again.
var (
	ErrLimit   = errors.New("as many takes are under way as may be")
	ErrUnknown = errors.New("the connection is at a different hub and can't be taken now")
	ErrClosed  = errors.New("the hub takes no connections any more")
	ErrLeft    = errors.New("the client hung up, or made room for a newcomer")
)

// Config configures Takes.
type Config struct {
	Taker   Taker                 // nil: Find finds nothing
	Most    int64                 // limit of takes under way, at least 1
	Logger  *slog.Logger          // gets failed takes at Debug; may be nil
	Metrics prometheus.Registerer // nil: the instruments are not registered
}

// Takes are the clients of a hub that wait for connections of its peers. It is safe for concurrent
// use.
type Takes struct {
	// Static after New.
	config  Config
	metrics *metrics
	closed  context.Context // ends at Close
	close   func()
	places  *places
}

// New returns Takes of which none is under way.
func New(c Config) (*Takes, error) {
	c.Logger = config.Logger(c.Logger)
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	t := &Takes{config: c, metrics: m, places: newPlaces(c.Most)}
	t.closed, t.close = context.WithCancel(context.Background())
	return t, nil
}

// Close ends all takes, and all later ones at once. It does not wait for them.
func (t *Takes) Close() { t.close() }

// Find returns the id of a connection that a different hub may have. err is that of Hub.Resume, and
// speaks the protocol of the client. Find returns false for a request that no client of a
// connection makes, whatever the peers have.
func (t *Takes) Find(id, token string, speaks hub.Protocol, err error) (hub.ConnectionID, bool) {
	_, resumable := speaks.(hub.Numbered)
	if t.config.Taker == nil || !resumable || token == "" || !IsElsewhere(err) {
		return "", false
	}
	known, _, err := hub.ParseConnectionID(id)
	return known, err == nil
}

// IsElsewhere reports whether Hub.Resume has found no connection, or a connection that moves away.
func IsElsewhere(err error) bool {
	return errors.Is(err, hub.ErrConnectionNotFound) || errors.Is(err, transfer.ErrMoving)
}

// Await returns nil when the connection is here. ctx must be the context of the request, which ends
// with the client. onWait is called before the wait.
func (t *Takes) Await(
	ctx context.Context, onWait func(), namespace string, id hub.ConnectionID, token string,
) error {
	from := lobby.StrangerOf(ctx).Address()
	_, born, _ := hub.ParseConnectionID(string(id)) // Find has checked the id
	if !t.places.reservePlace(from, born) {
		return ErrLimit
	}
	defer t.places.releasePlace(from, born)
	t.metrics.underWay.Inc()
	defer t.metrics.underWay.Dec()
	onWait()
	began, err := time.Now(), ErrLeft
	lobby.WaitInLine(ctx, func(client context.Context) {
		limited, cancel := context.WithTimeout(client, Timeout)
		defer cancel()
		defer context.AfterFunc(t.closed, cancel)()
		err = t.config.Taker.Take(limited, namespace, id, token)
		switch {
		case client.Err() != nil:
			err = ErrLeft
		case err == nil, errors.Is(err, hub.ErrResumeRefused):
		case t.closed.Err() != nil:
			err = ErrClosed
		default:
			t.config.Logger.Debug("take failed", slog.Any("error", err),
				slog.String("connection", string(id)))
			err = ErrUnknown
		}
	})
	t.metrics.observeTake(err, time.Since(began))
	return err
}
