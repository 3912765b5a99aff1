package mesh

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/connhub/connhub/control/mesh/move"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// changeMoves makes an input of the move core, and carries no effect out.
func (m *member) changeMoves(input func(c *move.Core, now time.Duration)) {
	m.Moves.shell.Do(func() {
		m.Moves.shell.Handle(func(c *move.Core, now time.Duration) []move.Effect {
			input(c, now)
			return nil
		})
	})
}

// wantAccepted checks that a hub answers a hello, and ends the link.
func (s *stranger) wantAccepted(t *testing.T, hello *peerv1.Hello) {
	t.Helper()
	control := s.open(hello)
	if r, err := control.Recv(); err != nil || r.GetHello() == nil {
		t.Errorf("a hello is answered with %v, %v", r, err)
	}
	_ = control.CloseSend()
	_ = drain(control.Recv)
}

// TestAPeerWithoutMovesIsRefusedWhileAConnectionMoves: it would never mark its lanes, so its calls
// would be left out at the new hub. It may dial again. Its peers are accepted meanwhile.
func TestAPeerWithoutMovesIsRefusedWhileAConnectionMoves(t *testing.T) {
	for name, change := range map[string]func(h *peerv1.Hello){
		"an older version": func(h *peerv1.Hello) { h.ProtocolMax = moveVersion - 1 },
		"a further lane":   func(h *peerv1.Hello) { h.Lanes++ },
	} {
		t.Run(name, func(t *testing.T) {
			beside(t, func(t *testing.T, x *member, s *stranger) {
				x.changeMoves(func(c *move.Core, now time.Duration) {
					if _, begun := c.StartMove(now, "c.a", "b"); !begun {
						t.Error("no move begins")
					}
				})
				hello, other := s.hello(1), s.hello(2)
				hello.Lanes, other.Lanes = uint32(x.config.Lanes), uint32(x.config.Lanes)
				change(hello)
				s.refused(t, s.control(hello), codes.FailedPrecondition,
					peerv1.RefusalReason_REFUSAL_REASON_MOVES_UNDER_WAY)
				if !strings.Contains(x.log.String(), "reason=MOVES_UNDER_WAY") {
					t.Errorf("the log does not say so:\n%s", x.log.String())
				}
				s.wantAccepted(t, other) // takes part in moves
				x.changeMoves(func(c *move.Core, now time.Duration) {
					c.HandleFailure(now, move.ID{From: "a", Number: 1}, true)
				})
				hello.Epoch = 3
				s.wantAccepted(t, hello)
			})
		})
	}
}

// TestACallAfterItsLinkIsNotKept: the core ignores it, so no answer of the core ends it.
func TestACallAfterItsLinkIsNotKept(t *testing.T) {
	beside(t, func(t *testing.T, x *member, s *stranger) {
		for n := range uint64(3) {
			part := x.Moves.executeCall("s", 0, s.forward(n+1), nil)
			if part.Awaited != nil {
				t.Errorf("call %d waits until %v", n, part.Until)
			}
			if part.Result().GetStatus() == nil {
				t.Errorf("call %d has a result", n)
			}
		}
	})
}
