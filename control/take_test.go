package control

import (
	"errors"
	"sync"
	"testing"

	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/control/mesh/moving"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/transfer"
	"github.com/connhub/connhub/internal/testkit"
)

// tokenProtocol is a protocol whose connections can move. It remembers their tokens, as clients do.
type tokenProtocol struct {
	ackedProtocol

	tokens sync.Map // by connection id
}

func (p *tokenProtocol) AppendGreeting(dst []byte, info hub.Info, token string) []byte {
	p.tokens.Store(info.ID, token)
	return dst
}

// resumableProtocol is the protocol of all connections of these tests that move.
var resumableProtocol = &tokenProtocol{}

func speaksResumable(name string) (hub.Protocol, bool) {
	return resumableProtocol, name == resumableProtocol.Name()
}

func restoreClaims(_ []string, claims hub.Claims) (*hub.Claims, error) { return &claims, nil }

func (f *fixture) moves() *mesh.Moves { return f.server.publisher.router.moves }

// take has a client come to a hub, also if a different hub has its connection. A hub that can't
// have it now is asked again.
func (f *fixture) take(t *testing.T, id hub.ConnectionID) *client {
	t.Helper()
	var back *client
	testkit.Eventually(t, "a hub takes a connection", func() bool {
		known, _ := resumableProtocol.tokens.Load(id)
		token, _ := known.(string)
		if err := f.moves().Take(t.Context(), hub.DefaultNamespace, id, token); err != nil {
			holdAgain(t, err)
			return false
		}
		r, err := f.hub.Resume(t.Context(), hub.DefaultNamespace, string(id), token)
		if err != nil {
			holdAgain(t, err)
			return false
		}
		back = &client{Connection: r.Connection, turn: make(chan struct{}, 1)}
		return r.Bind(back) == nil
	})
	return back
}

// holdAgain holds that the client may ask again after an error.
func holdAgain(t *testing.T, err error) {
	t.Helper()
	for _, passing := range []error{
		moving.ErrUnavailable, transfer.ErrMoving, hub.ErrConnectionNotFound,
	} {
		if errors.Is(err, passing) {
			return
		}
	}
	t.Errorf("a client has lost its connection: %v", err)
}
