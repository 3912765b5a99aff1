package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/test/chaos/verdict"
)

const (
	callEvery    = 25 // ms between two calls of a caller, on average half of it
	waitOfSend   = time.Second
	limitOfCall  = 6 * time.Second // after it a call has an unknown outcome
	mostAttempts = 20
	retryAfter   = 50 * time.Millisecond
	joinEvery    = 60 * time.Millisecond
	kickEvery    = 700 * time.Millisecond
	kickCode     = 4000
)

// caller is a backend. It calls a random hub each time.
type caller struct {
	run    *run
	number int
	random *rand.Rand // owned by its goroutine
}

// startCallers starts the backends. They end with calling.
func (r *run) startCallers() {
	ctx, cancel := context.WithCancel(context.Background())
	r.stopCalling = cancel
	r.t.Cleanup(func() { cancel(); r.calling.Wait() })
	for i := range callers {
		c := &caller{run: r, number: i, random: r.newRandom(2, i)}
		if i < streamers {
			r.calling.Go(func() { c.streamAll(ctx) })
		} else {
			r.calling.Go(func() { c.sendAll(ctx) })
		}
	}
	r.calling.Go(func() {
		(&caller{run: r, number: joiner, random: r.newRandom(2, joiner)}).joinAll(ctx)
	})
	r.calling.Go(func() {
		(&caller{run: r, number: kicker, random: r.newRandom(2, kicker)}).kickAll(ctx)
	})
}

// pickHub draws the hub of the next call.
func (c *caller) pickHub() *hub {
	return c.run.places[c.random.IntN(len(c.run.places))].current()
}

// pickClient draws a client that has a connection. ok is false if none has.
func (c *caller) pickConnection() (id string, ok bool) {
	for range len(c.run.clients) {
		id, _ := c.run.clients[c.random.IntN(len(c.run.clients))].state()
		if id != "" {
			return id, true
		}
	}
	return "", false
}

func (c *caller) drawTarget() verdict.Target {
	switch p := c.random.IntN(100); {
	case p < 3:
		return verdict.Target{Everyone: true}
	case p < 35:
		if id, ok := c.pickConnection(); ok {
			return verdict.Target{Connection: id}
		}
		fallthrough
	case p < 60:
		users := (len(c.run.clients) + perUser - 1) / perUser
		return verdict.Target{User: fmt.Sprint("user-", c.random.IntN(users))}
	case p < 80:
		return verdict.Target{Group: fmt.Sprint("group-", c.random.IntN(tokenGroups))}
	default:
		return verdict.Target{Group: fmt.Sprint("late-", c.random.IntN(lateGroups))}
	}
}

func (c *caller) drawWait() controlv1.Wait {
	return []controlv1.Wait{
		controlv1.Wait_WAIT_QUEUED, controlv1.Wait_WAIT_WRITTEN, controlv1.Wait_WAIT_ACKED,
	}[c.random.IntN(3)]
}

// sendAll sends message after message until the context ends.
func (c *caller) sendAll(ctx context.Context) {
	for ctx.Err() == nil {
		c.sendOne(ctx, c.drawTarget(), c.drawWait())
		pause(ctx, milliseconds(c.random, 0, callEvery))
	}
}

// sendOne sends a message, again and again under the same request id until it succeeds. It gives up
// after mostAttempts, or between two attempts when the context ends. It returns the number of the
// send.
func (c *caller) sendOne(
	ctx context.Context, target verdict.Target, wait controlv1.Wait,
) (number int) {
	record := c.run.record
	number = record.nextNumber(&record.sends)
	request := newRequest(number, target, wait)
	for range mostAttempts {
		h := c.pickHub()
		record.add(verdict.Event{
			Kind: verdict.Sent, Send: number, Caller: c.number, Hub: h.Hub, Target: target,
		})
		var response *controlv1.SendResponse
		err := within(limitOfCall, func(ctx context.Context) (err error) {
			delivery := controlv1.NewDeliveryServiceClient(h.backends[c.number])
			response, err = delivery.Send(ctx, request)
			return err
		})
		record.add(verdict.Event{
			Kind: verdict.Answered, Send: number, Hub: h.Hub, Outcome: outcomeOf(err),
			Receipt: newReceipt(response.GetReceipt()),
		})
		if err == nil || ctx.Err() != nil {
			break
		}
		pause(ctx, retryAfter)
	}
	return number
}

// within makes a call with a time limit.
func within(limit time.Duration, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return call(ctx)
}

func newRequest(
	number int, target verdict.Target, wait controlv1.Wait,
) *controlv1.SendRequest {
	text := strconv.Itoa(number)
	return &controlv1.SendRequest{
		Target:    newTarget(target),
		Message:   &controlv1.Message{Payload: &controlv1.Message_Text{Text: text}},
		RequestId: text, Wait: wait, WaitTimeout: durationpb.New(waitOfSend),
	}
}

func newTarget(t verdict.Target) *controlv1.Target {
	switch {
	case t.Connection != "":
		return &controlv1.Target{Connections: []string{t.Connection}}
	case t.User != "":
		return &controlv1.Target{Users: []string{t.User}}
	case t.Group != "":
		return &controlv1.Target{Groups: []string{t.Group}}
	}
	return &controlv1.Target{Everyone: true}
}

// newReceipt reads a receipt; nil: there is none.
func newReceipt(r *controlv1.Receipt) verdict.Receipt {
	dropped := 0
	for _, d := range r.GetDropped() {
		dropped += int(d.GetCount())
	}
	states := r.GetPending() + r.GetQueued() + r.GetQueuedDetached() + r.GetWritten() +
		r.GetAcked() + r.GetInTransfer()
	return verdict.Receipt{
		Matched: int(r.GetMatched()), States: int(states) + dropped, Acked: int(r.GetAcked()),
		Dropped: dropped, InTransfer: int(r.GetInTransfer()),
		Unreachable: r.GetUnreachableHubs(), Duplicate: r.GetDuplicate(),
	}
}

// outcomeOf tells whether a call that failed may have been carried out.
func outcomeOf(err error) verdict.Outcome {
	if err == nil {
		return verdict.Succeeded
	}
	return outcomeOfStatus(status.Convert(err))
}

func outcomeOfStatus(s *status.Status) verdict.Outcome {
	for _, detail := range s.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if ok && slices.Contains([]string{"SHUTTING_DOWN", "HUB_STARTING"}, info.GetReason()) {
			return verdict.Declined
		}
	}
	return verdict.Unknown
}

// joinAll adds connections to groups and removes them, until the context ends.
func (c *caller) joinAll(ctx context.Context) {
	type pair struct{ connection, group string }
	joined := map[pair]bool{}
	for ctx.Err() == nil {
		pause(ctx, joinEvery)
		id, ok := c.pickConnection()
		if !ok {
			continue
		}
		p := pair{id, fmt.Sprint("late-", c.random.IntN(lateGroups))}
		if joined[p] {
			c.leave(p.connection, p.group)
		} else {
			c.join(p.connection, p.group)
		}
		joined[p] = !joined[p]
	}
}

func (c *caller) join(connection, group string) {
	e := verdict.Event{Kind: verdict.Joining, Connection: connection, Group: group}
	c.run.record.add(e)
	var r *controlv1.AddToGroupsResponse
	err := within(limitOfCall, func(ctx context.Context) (err error) {
		groups := controlv1.NewGroupServiceClient(c.pickHub().backends[c.number])
		r, err = groups.AddToGroups(ctx, &controlv1.AddToGroupsRequest{
			Target: newTarget(verdict.Target{Connection: connection}), Groups: []string{group},
		})
		return err
	})
	e.Kind, e.Outcome = verdict.Joined, outcomeOf(err)
	e.Receipt.Matched = int(r.GetAdded() + r.GetAlready())
	e.Receipt.Unreachable = r.GetUnreachableHubs()
	c.run.record.add(e)
}

func (c *caller) leave(connection, group string) {
	e := verdict.Event{Kind: verdict.Leaving, Connection: connection, Group: group}
	c.run.record.add(e)
	var r *controlv1.RemoveFromGroupsResponse
	err := within(limitOfCall, func(ctx context.Context) (err error) {
		groups := controlv1.NewGroupServiceClient(c.pickHub().backends[c.number])
		r, err = groups.RemoveFromGroups(ctx, &controlv1.RemoveFromGroupsRequest{
			Target: newTarget(verdict.Target{Connection: connection}), Groups: []string{group},
		})
		return err
	})
	e.Kind, e.Outcome = verdict.Left, outcomeOf(err)
	e.Receipt.Matched = int(r.GetMatched())
	e.Receipt.Unreachable = r.GetUnreachableHubs()
	c.run.record.add(e)
}

// kickAll closes connections until the context ends.
func (c *caller) kickAll(ctx context.Context) {
	for ctx.Err() == nil {
		pause(ctx, kickEvery)
		if id, ok := c.pickConnection(); ok {
			c.kick(id)
		}
	}
}

func (c *caller) kick(connection string) {
	e := verdict.Event{Kind: verdict.Kicking, Connection: connection}
	c.run.record.add(e)
	var r *controlv1.CloseConnectionsResponse
	err := within(limitOfCall, func(ctx context.Context) (err error) {
		connections := controlv1.NewConnectionServiceClient(c.pickHub().backends[c.number])
		r, err = connections.CloseConnections(ctx, &controlv1.CloseConnectionsRequest{
			Target: newTarget(verdict.Target{Connection: connection}), Code: kickCode,
		})
		return err
	})
	e.Kind, e.Outcome = verdict.Kicked, outcomeOf(err)
	e.Receipt.Matched, e.Receipt.Unreachable = int(r.GetMatched()), r.GetUnreachableHubs()
	c.run.record.add(e)
}
