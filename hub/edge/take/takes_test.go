package take_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/hub/edge/take"
	"github.com/connhub/connhub/hub/edge/webpubsub"
	"github.com/connhub/connhub/hub/transfer"
)

// failing is a Taker of a hub whose peers say the same of each connection.
type failing struct{ answer error }

// Take implements take.Taker.
func (f failing) Take(context.Context, string, hub.ConnectionID, string) error { return f.answer }

// TestOnlyARequestOfAConnectionsClientIsWorthATake, and only if the connection is not here.
func TestOnlyARequestOfAConnectionsClientIsWorthATake(t *testing.T) {
	const good = "aaaaaaaa.aaaaaaaaaaaaaaaaaaaaaaaaaa"
	reliable := framing.WebSocket(webpubsub.ReliableJSON{})
	unnumbered, bare := framing.WebSocket(webpubsub.JSON{}), framing.WebSocket(plain.Protocol{})
	for _, tc := range []struct {
		taker     take.Taker
		id, token string
		speaks    hub.Protocol
		err       error
		want      bool
	}{
		{failing{}, good, "t", reliable, hub.ErrConnectionNotFound, true},
		{failing{}, good, "t", reliable, fmt.Errorf("x: %w", transfer.ErrMoving), true},
		{nil, good, "t", reliable, hub.ErrConnectionNotFound, false},
		{failing{}, good, "t", reliable, nil, false},
		{failing{}, good, "t", reliable, hub.ErrResumeRefused, false},
		{failing{}, good, "t", reliable, hub.ErrShuttingDown, false},
		{failing{}, good, "t", reliable, context.Canceled, false},
		{failing{}, good, "", reliable, hub.ErrConnectionNotFound, false},
		{failing{}, good, "t", unnumbered, hub.ErrConnectionNotFound, false},
		{failing{}, good, "t", bare, hub.ErrConnectionNotFound, false},
		{failing{}, good[1:], "t", reliable, hub.ErrConnectionNotFound, false},
		{failing{}, "aaaaaaaa.b", "t", reliable, hub.ErrConnectionNotFound, false},
		{failing{}, "", "t", reliable, hub.ErrConnectionNotFound, false},
	} {
		takes, err := take.New(take.Config{Taker: tc.taker, Most: 1})
		if err != nil {
			t.Fatal(err)
		}
		id, ok := takes.Find(tc.id, tc.token, tc.speaks, tc.err)
		if ok != tc.want || ok && string(id) != tc.id {
			t.Errorf("%+v: found %q, %t", tc, id, ok)
		}
	}
}

// TestAnAnswerIsFinalOnlyIfTheTakerSaysSo.
func TestAnAnswerIsFinalOnlyIfTheTakerSaysSo(t *testing.T) {
	for _, tc := range []struct{ answer, want error }{
		{nil, nil},
		{fmt.Errorf("its hub is dead: %w", hub.ErrResumeRefused), hub.ErrResumeRefused},
		{transfer.ErrMoving, take.ErrUnknown},
		{context.DeadlineExceeded, take.ErrUnknown},
		{errors.New("no link"), take.ErrUnknown},
	} {
		takes, err := take.New(take.Config{Taker: failing{tc.answer}, Most: 1})
		if err != nil {
			t.Fatal(err)
		}
		waits := 0
		for range 3 { // each gives its place back
			err := takes.Await(t.Context(), func() { waits++ }, "default", "a.b", "t")
			if !errors.Is(err, tc.want) {
				t.Errorf("%v became %v", tc.answer, err)
			}
		}
		if waits != 3 {
			t.Errorf("%d waits were told", waits)
		}
	}
}

// TestATakerThatPanicsLeavesNothing: its place is free again, and no goroutine is left (TestMain).
func TestATakerThatPanicsLeavesNothing(t *testing.T) {
	takes, err := take.New(take.Config{Taker: panicking{}, Most: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("the panic is lost")
				}
			}()
			_ = takes.Await(context.WithoutCancel(t.Context()), func() {}, "default", "a.b", "t")
		}()
	}
}

type panicking struct{}

// Take implements take.Taker.
func (panicking) Take(context.Context, string, hub.ConnectionID, string) error { panic("a fault") }
