package control

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/connhub/connhub/control/failure/failuretest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/testkit"
)

// lateAnswer is the answer of a call that may wait for the end of a move.
type lateAnswer[R any] struct {
	name string
	came chan R
}

// callLater begins a call.
func callLater[R any](t *testing.T, name string, call func() (R, error)) lateAnswer[R] {
	t.Helper()
	l := lateAnswer[R]{name, make(chan R, 1)}
	go func() {
		answer, err := call()
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		l.came <- answer
	}()
	return l
}

// hold holds that the answer comes. On a busy machine it may name a hub that is silent just now,
// and then it proves nothing.
func (l lateAnswer[R]) hold(t *testing.T, want R) {
	t.Helper()
	have, _ := testkit.Receive(t, l.name, l.came)
	gaps, ok := any(have).(interface{ GetUnreachableHubs() []string })
	if ok && len(gaps.GetUnreachableHubs()) > 0 {
		t.Logf("%s: the answer names %v", l.name, gaps.GetUnreachableHubs())
		return
	}
	hold(t, nil, want, have)
}

// sendComplete sends a message until a receipt names no hub. It returns that receipt, and how many
// messages it has sent.
func (f *fixture) sendComplete(
	t *testing.T, target *controlv1.Target, text string,
) (r *controlv1.Receipt, sent int) {
	t.Helper()
	testkit.Eventually(t, "a receipt of every hub", func() bool {
		sent++
		r = f.send(t, waiting(to(target, text), controlv1.Wait_WAIT_WRITTEN, longWait))
		return len(r.GetUnreachableHubs()) == 0
	})
	return r, sent
}

func TestPublishesComeInOrderWhileAConnectionMoves(t *testing.T) {
	eachHold(t, func(t *testing.T, c *cluster, m *heldMove) {
		bob := c.hubs[2].connect(t, &wireProtocol{}, "bob", "lobby")
		eve := c.hubs[0].connect(t, &wireProtocol{}, "eve", "lobby")
		var byBob, byEve []string
		for i := range 20 {
			byBob = append(byBob, fmt.Sprint("bob ", i))
			byEve = append(byEve, fmt.Sprint("eve ", i))
			m.third.publish(t, bob, "lobby", byBob[i])
			m.from.publish(t, eve, "lobby", byEve[i])
		}
		m.finish(t)
		holdSent(t, m.comeBack(t, 40), [][]string{byBob, byEve}, nil)
	})
}

// A verb that begins during a move is carried out once, and its answer counts the connection.
func TestVerbsChangeAConnectionThatMoves(t *testing.T) {
	eachHold(t, func(t *testing.T, _ *cluster, m *heldMove) {
		ann := users("ann")
		blue := callLater(t, "a join", func() (*controlv1.AddToGroupsResponse, error) {
			return m.third.groups.AddToGroups(t.Context(), &controlv1.AddToGroupsRequest{
				Target: ann, Groups: []string{"blue"},
			})
		})
		red := callLater(t, "a join at the old hub", func() (
			*controlv1.AddToGroupsResponse, error,
		) {
			return m.from.groups.AddToGroups(t.Context(), &controlv1.AddToGroupsRequest{
				Target: ann, Groups: []string{"red"},
			})
		})
		lobby := callLater(t, "a leave", func() (*controlv1.RemoveFromGroupsResponse, error) {
			return m.third.groups.RemoveFromGroups(
				t.Context(), &controlv1.RemoveFromGroupsRequest{
					Target: ann, Groups: []string{"lobby"},
				},
			)
		})
		grant := callLater(t, "a grant", func() (*controlv1.GrantPermissionsResponse, error) {
			return m.third.access.GrantPermissions(
				t.Context(), &controlv1.GrantPermissionsRequest{
					Target: ann, Permissions: may(joinLeave, "green"),
				},
			)
		})
		m.third.check(
			t, &controlv1.CheckPermissionsResponse{Matched: 1}, ann, may(joinLeave, "black")...,
		)
		m.finish(t)
		blue.hold(t, &controlv1.AddToGroupsResponse{Matched: 1, Added: 1})
		red.hold(t, &controlv1.AddToGroupsResponse{Matched: 1, Added: 1})
		lobby.hold(t, &controlv1.RemoveFromGroupsResponse{Matched: 1, Removed: 1})
		grant.hold(t, &controlv1.GrantPermissionsResponse{Matched: 1, Changed: 1})

		m.comeBack(t, 0)
		written := &controlv1.Receipt{Matched: 1, Written: 1}
		for _, f := range []*fixture{m.from, m.to, m.third} {
			for group, want := range map[string]*controlv1.Receipt{
				"blue": written, "red": written, "lobby": {},
			} {
				have, _ := f.sendComplete(t, groupsTarget(group), group)
				holdReceipt(t, want, have)
			}
			f.check(t, &controlv1.CheckPermissionsResponse{Matched: 1, Allowed: 1}, ann,
				may(joinLeave, "green")...)
		}
	})
}

// A connection that is closed during a move is closed once, and its client can't have it back.
func TestACloseEndsAConnectionThatMoves(t *testing.T) {
	eachHold(t, func(t *testing.T, _ *cluster, m *heldMove) {
		closing := callLater(t, "a close", func() (*controlv1.CloseConnectionsResponse, error) {
			return m.third.connections.CloseConnections(
				t.Context(), &controlv1.CloseConnectionsRequest{Target: users("ann")},
			)
		})
		m.finish(t)
		closing.hold(t, &controlv1.CloseConnectionsResponse{Matched: 1, Closed: 1})
		for _, f := range []*fixture{m.from, m.to, m.third} {
			_, err := f.connections.GetConnection(
				t.Context(), &controlv1.GetConnectionRequest{Connection: string(m.id())},
			)
			failuretest.HoldError(t, err, codes.NotFound, "CONNECTION_NOT_FOUND")
		}
		for _, f := range []*fixture{m.to, m.third} {
			known, _ := resumableProtocol.tokens.Load(m.id())
			token, _ := known.(string)
			// A hub may ask its client to try again while its peers' interests are out of date.
			testkit.Eventually(t, "the client of a closed connection is refused", func() bool {
				err := f.moves().Take(t.Context(), hub.DefaultNamespace, m.id(), token)
				if err == nil {
					t.Errorf("hub %s gives a closed connection back", f.hub.ID())
				}
				return errors.Is(err, hub.ErrResumeRefused)
			})
		}
	})
}

// max_matched counts a connection that moves, once.
func TestMaxMatchedCountsAConnectionThatMoves(t *testing.T) {
	eachHold(t, func(t *testing.T, c *cluster, m *heldMove) {
		c.hubs[2].connect(t, &wireProtocol{}, "ann")
		closeAtMost := func(most int32) (*controlv1.CloseConnectionsResponse, error) {
			return m.third.connections.CloseConnections(
				t.Context(), &controlv1.CloseConnectionsRequest{
					Target: users("ann"), MaxMatched: most,
				},
			)
		}
		tooMany := callLater(t, "a close of too many", func() (error, error) {
			_, err := closeAtMost(1)
			return err, nil
		})
		m.finish(t)
		err, _ := testkit.Receive(t, tooMany.name, tooMany.came)
		failuretest.HoldError(t, err, codes.FailedPrecondition, "TOO_MANY_MATCHED")
		closed, err := closeAtMost(2)
		hold(t, err, &controlv1.CloseConnectionsResponse{Matched: 2, Closed: 2}, closed)
	})
}

// Reads name the old hub until the new hub owns the connection. None has it twice.
func TestReadsFindAConnectionOnceWhileItsMoveIsOpen(t *testing.T) {
	eachHold(t, func(t *testing.T, _ *cluster, m *heldMove) {
		holdHolder := func(step string, holder *fixture) {
			want := string(holder.hub.ID())
			for _, f := range []*fixture{m.from, m.to, m.third} {
				if have := f.holderOf(t, m.id()); have != want {
					t.Errorf("%s: hub %s names %s", step, f.hub.ID(), have)
				}
				f.holdListed(t, step, m.id(), want)
				f.holdCounted(t, step)
			}
		}
		holdHolder("open", m.from)
		m.finish(t)
		holdHolder("committed", m.to)
	})
}

// A retry delivers nothing to a connection for which the first try was queued or is held.
func TestARetryDuringAMoveDeliversNothingTwice(t *testing.T) {
	eachHold(t, func(t *testing.T, _ *cluster, m *heldMove) {
		var want []string
		for _, f := range []*fixture{m.from, m.third} {
			for i, wait := range strongWaits {
				text := fmt.Sprint(wait, " through ", f.hub.ID())
				want = append(want, text)
				for _, through := range []*fixture{f, m.third, m.from} {
					req := waiting(to(groupsTarget("lobby"), text), wait, shortWait/3)
					req.RequestId = fmt.Sprint(f.hub.ID(), i)
					r := through.send(t, req)
					if r.GetMatched() != 1 && len(r.GetUnreachableHubs()) == 0 {
						t.Errorf("%s: %v", text, r)
					}
				}
			}
		}
		m.finish(t)
		m.back = m.to.take(t, m.id())
		for _, f := range []*fixture{m.from, m.third} { // behind all held calls of their hubs
			_, sent := f.sendComplete(t, users("ann"), string(f.hub.ID()))
			want = append(want, slices.Repeat([]string{string(f.hub.ID())}, sent)...)
		}
		holdSent(t, payloadsOf(m.back), nil, want)
	})
}
