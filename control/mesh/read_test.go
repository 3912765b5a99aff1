package mesh

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/control/mesh/core"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// reader sets a hub's answer to a Read.
func (h *member) reader(f func(ctx context.Context) (*peerv1.ReadResponse, error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.read = f
}

func TestReadAnswersOrSaysThatTheHubIsUnreachable(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		time.Sleep(time.Second)
		if r, err := x.ask(t.Context(), "b"); err != nil || r.GetRead() == nil {
			t.Error(r, err)
		}
		if _, err := x.ask(t.Context(), "nobody"); !errors.Is(err, ErrUnreachable) {
			t.Error(err)
		}
		y.reader(func(context.Context) (*peerv1.ReadResponse, error) {
			return nil, status.Error(codes.NotFound, "no such connection")
		})
		_, err := x.ask(t.Context(), "b")
		if status.Code(err) != codes.NotFound ||
			status.Convert(err).Message() != "no such connection" {
			t.Error(err)
		}
		overloaded, err := status.New(codes.Unavailable, "later").WithDetails(&peerv1.ReadHub{})
		if err != nil {
			t.Fatal(err)
		}
		y.reader(func(context.Context) (*peerv1.ReadResponse, error) {
			return nil, overloaded.Err()
		})
		if _, err := x.ask(t.Context(), "b"); status.Code(err) != codes.Unavailable {
			t.Error(err)
		}
	})
}

func TestReadEndsWhenItsHubOrItsCallerDoes(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bubble) {
		x, y := b.start("a"), b.start("b")
		y.reader(func(ctx context.Context) (*peerv1.ReadResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		time.Sleep(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := x.ask(ctx, "b"); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		began := time.Now()
		b.stall(x, y, true, true)
		_, err := x.ask(t.Context(), "b")
		if !errors.Is(err, ErrUnreachable) || time.Since(began) > core.SuspectTime {
			t.Errorf("a hub that turns suspect: %v after %v", err, time.Since(began))
		}
		_, err = x.ask(t.Context(), "b")
		if !errors.Is(err, ErrUnreachable) || time.Since(began) > core.SuspectTime {
			t.Errorf("a suspect hub: %v after %v", err, time.Since(began))
		}
		b.stall(x, y, false, false)
		time.Sleep(time.Second)
		cut := time.AfterFunc(50*time.Millisecond, func() { b.cut(x, y) })
		defer cut.Stop()
		began = time.Now()
		_, err = x.ask(t.Context(), "b")
		if !errors.Is(err, ErrUnreachable) || time.Since(began) != 50*time.Millisecond {
			t.Errorf("a hub whose link is cut: %v after %v", err, time.Since(began))
		}
	})
}

// TestAnAnswerThatIsNotOfTheHubsAPIIsNone: another hub is at the address of the data connection, or
// the answer comes from gRPC.
func TestAnAnswerThatIsNotOfTheHubsAPIIsNone(t *testing.T) {
	wrongHub := toStatus(refusedError{peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB})
	for name, err := range map[string]error{
		"another hub": wrongHub,
		"gRPC":        status.Error(codes.Unavailable, "error reading from server: EOF"),
	} {
		t.Run(name, func(t *testing.T) {
			besideRogue(t, &rogue{control: says(), read: err},
				func(t *testing.T, _ *bubble, x *member) {
					time.Sleep(50 * time.Millisecond)
					if _, err := x.ask(t.Context(), "r"); !errors.Is(err, ErrUnreachable) {
						t.Error(err)
					}
				})
		})
	}
}

func TestAReadForAnotherHubIsRefused(t *testing.T) {
	beside(t, func(t *testing.T, _ *member, s *stranger) {
		_, err := s.Read(t.Context(), &peerv1.ReadRequest{
			Hub: "c", Read: &peerv1.ReadRequest_Self{},
		})
		s.refused(t, err, codes.FailedPrecondition, peerv1.RefusalReason_REFUSAL_REASON_WRONG_HUB)
	})
}
