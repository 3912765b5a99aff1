package bench

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/load"
)

const (
	// settleLimit is how long messages in receipts may be on their way before they count as
	// missing.
	settleLimit = 5 * time.Second
	// settlePoll is the time between two looks at the counts of clients.
	settlePoll = 5 * time.Millisecond
)

var errHubLeaves = errors.New("the hub is leaving")

// driver sends the messages of a bench.
//
// Problem: latency under a rate must count from the time when a message is due. Otherwise a hub
// that stalls looks good, because it also stalls the sender.
//
// Outline: pace knows when each message is due. For each stream, a goroutine builds and writes
// batches of the messages that are due and may be in flight, and another goroutine reads results.
// Unary calls are made by as many goroutines as messages may be in flight.
type driver struct {
	// Static.
	bench    *bench
	flags    *benchSendFlags
	target   func() *controlv1.Target
	filler   []byte
	inFlight int
	receipts *load.Histogram
	hubs     []*dial.Client // the backend's connections

	waiting sync.Mutex // held by the goroutine that waits until the next message is due

	mu      sync.Mutex
	pace    pace
	sent    int64
	dueAt   map[int64]time.Duration // of messages without a result, by sequence
	counts  receiptCounts
	results int64
	gaps    controlv1.Receipt // the hubs that were not reached
	err     error             // of the first send that failed
}

// receiptCounts adds up the receipts of sends.
type receiptCounts struct{ matched, written, dropped int64 }

func (c *receiptCounts) addReceipt(r *controlv1.Receipt) {
	c.matched += int64(r.GetMatched())
	c.written += int64(r.GetWritten())
	for _, d := range r.GetDropped() {
		c.dropped += int64(d.GetCount())
	}
}

// pace knows when messages are due, in the time of a stamp.
type pace struct {
	start, end time.Duration
	every      time.Duration // 0: at once
	taken      int64
}

// nextDue returns when the next message is due. It returns false if the run is over.
func (p *pace) nextDue(now time.Duration) (time.Duration, bool) {
	at := now
	if p.every > 0 {
		at = p.start + time.Duration(p.taken)*p.every
	}
	return at, at < p.end
}

// runSends sends for the duration of f, and reports the results.
func (b *bench) runSends(
	ctx context.Context, f *benchSendFlags, inFlight int, target func() *controlv1.Target,
) error {
	d := &driver{
		bench: b, flags: f, target: target, inFlight: inFlight, receipts: load.NewHistogram(),
		dueAt:  map[int64]time.Duration{},
		filler: bytes.Repeat([]byte("x"), f.Size-load.StampSize),
	}
	if f.Rate > 0 {
		d.inFlight, d.pace.every = dial.MaxInFlight,
			max(time.Duration(float64(time.Second)/f.Rate), 1)
	}
	hubs, closeOthers, err := b.dialBackends(f.BackendConnections)
	if err != nil {
		return err
	}
	defer closeOthers()
	d.hubs = hubs
	if err := d.rehearseSends(ctx); err != nil {
		return err
	}
	before := b.ops.takeSample(ctx)
	d.pace.start = b.stamp.Now()
	d.pace.end = d.pace.start + f.Duration
	b.progress.showPhase("sending", f.Duration.Seconds(), d.watchRate())
	way := d.runStreams
	if f.Unary {
		way = d.runUnary
	}
	way(ctx)
	took := b.stamp.Now() - d.pace.start
	if ctx.Err() == nil && d.err == nil {
		took = max(took, f.Duration) // under a rate no message may be due at the end
	}
	d.awaitDeliveries()
	after := b.ops.takeSample(context.WithoutCancel(ctx))
	d.reportSends(took)
	deliveries, sends := float64(b.report.Deliveries), float64(b.report.Sends)
	b.reportCPU(before, after, took, func(h *benchHub, micros float64) {
		if deliveries > 0 {
			h.PerDelivery, h.PerSend = roundFigure(micros/deliveries), roundFigure(micros/sends)
		}
	})
	if d.err != nil && ctx.Err() == nil {
		return fmt.Errorf("the run ended early: %w", d.err)
	}
	return nil
}

// rehearseSends sends a message to all over each connection of the backend, so that each connection
// and the call itself have been used once.
func (d *driver) rehearseSends(ctx context.Context) error {
	for _, h := range d.hubs {
		if err := d.rehearseSend(ctx, h); err != nil {
			return err
		}
	}
	pollUntil(settleLimit, func() bool {
		return d.bench.crowd.Counts().Rehearsed >=
			int64(d.bench.flags.Connections)*int64(len(d.hubs))
	})
	return nil
}

func (d *driver) rehearseSend(ctx context.Context, h *dial.Client) error {
	b := d.bench
	var receipt *controlv1.Receipt
	err := h.InvokeWithin(ctx, 0, func(ctx context.Context) error {
		request := d.newRequest(&controlv1.Target{Groups: []string{b.groupName()}}, b.stamp.Now(),
			int64(load.Rehearsal))
		response, err := controlv1.NewDeliveryServiceClient(h).Send(ctx, request)
		receipt = response.GetReceipt()
		return err
	})
	if err != nil {
		return err
	}
	if n := int(receipt.GetMatched()); n != b.flags.Connections {
		return fmt.Errorf("%d of %s are in the group that was made for them: %s", n,
			terminal.CountNoun(b.flags.Connections, "connection"),
			cmp.Or(terminal.MakePrintable(b.crowd.Lost()),
				"the hub at --addr is not of the cluster that clients connect to"))
	}
	return nil
}

// pollUntil waits until holds returns true, at most for limit.
func pollUntil(limit time.Duration, holds func() bool) {
	tick := time.NewTicker(settlePoll)
	defer tick.Stop()
	for end := time.Now().Add(limit); !holds() && time.Now().Before(end); {
		<-tick.C
	}
}

// newRequest returns a message that is due at a time.
func (d *driver) newRequest(
	target *controlv1.Target, at time.Duration, sequence int64,
) *controlv1.SendRequest {
	payload := d.bench.stamp.Append(make([]byte, 0, d.flags.Size), at, uint32(sequence))
	return &controlv1.SendRequest{
		Namespace: d.bench.flags.Namespace, Target: target,
		Message: &controlv1.Message{Payload: &controlv1.Message_Text{Text: string(append(payload,
			d.filler...))}},
		Wait: controlv1.Wait_WAIT_WRITTEN,
		WaitTimeout: durationpb.New(min(dial.ServerWait,
			d.bench.flags.Timeout-d.bench.flags.Timeout/10)),
	}
}

// takeMessage returns the next message. If wait is above 0, the message is due only after that
// time, and was not taken. ok is false after the last message.
func (d *driver) takeMessage() (sequence int64, request *controlv1.SendRequest, wait time.Duration,
	ok bool,
) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.bench.stamp.Now()
	at, ok := d.pace.nextDue(now)
	if !ok || d.err != nil {
		return 0, nil, 0, false
	}
	if at > now {
		return 0, nil, at - now, true
	}
	d.pace.taken++
	sequence = d.pace.taken
	d.dueAt[sequence] = at
	d.sent++
	return sequence, d.newRequest(d.target(), at, sequence), 0, true
}

// awaitMessage waits until the next message is due, and returns it. Only one caller waits for the
// time: a thousand that wake up for the same message would delay it.
func (d *driver) awaitMessage(
	ctx context.Context,
) (sequence int64, request *controlv1.SendRequest, ok bool) {
	d.waiting.Lock()
	defer d.waiting.Unlock()
	for ctx.Err() == nil {
		sequence, request, due, ok := d.takeMessage()
		if !ok || due == 0 {
			return sequence, request, ok
		}
		waitFor(ctx, due)
	}
	return 0, nil, false
}

// recordResult counts the result of a send.
func (d *driver) recordResult(sequence int64, receipt *controlv1.Receipt, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	at, ok := d.dueAt[sequence]
	if !ok {
		return
	}
	delete(d.dueAt, sequence)
	if err != nil {
		d.err = cmp.Or(d.err, err)
		return
	}
	d.receipts.Record(d.bench.stamp.Now() - at)
	d.results++
	d.counts.addReceipt(receipt)
	d.gaps.UnreachableHubs = dial.AddHubs(d.gaps.GetUnreachableHubs(), receipt.GetUnreachableHubs())
}

// failRun ends the run.
func (d *driver) failRun(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = cmp.Or(d.err, err)
}

// runUnary sends with a call for each message.
func (d *driver) runUnary(ctx context.Context) {
	eachOf(d.inFlight, func(i int) {
		h := d.hubs[i%len(d.hubs)]
		for {
			sequence, request, ok := d.awaitMessage(ctx)
			if !ok {
				return
			}
			var response *controlv1.SendResponse
			// Ctrl-C does not cut a call in flight: its message counts.
			err := h.InvokeWithin(context.WithoutCancel(ctx), 0, func(
				ctx context.Context,
			) (err error) {
				response, err = controlv1.NewDeliveryServiceClient(h).Send(ctx, request)
				return err
			})
			d.recordResult(sequence, response.GetReceipt(), err)
		}
	})
}

type benchStream = grpc.BidiStreamingClient[controlv1.SendStreamRequest,
	controlv1.SendStreamResponse]

// runStreams sends over all streams. They share the messages that may be in flight, and take turns
// in the backend's connections.
func (d *driver) runStreams(ctx context.Context) {
	eachOf(d.flags.Streams, func(i int) {
		d.runStream(ctx, d.hubs[i%len(d.hubs)], shareOf(d.inFlight, i, d.flags.Streams))
	})
}

// runStream sends over a stream.
func (d *driver) runStream(ctx context.Context, h *dial.Client, inFlight int) {
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stream, err := controlv1.NewDeliveryServiceClient(h).SendStream(streamCtx)
	if err != nil {
		d.failRun(d.callError(err))
		return
	}
	slots := make(chan struct{}, inFlight) // an element for each message without a result
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d.readResults(stream, slots)
	}()
	d.writeBatches(ctx, stream, slots, ended)
	_ = stream.CloseSend()
	limit := time.NewTimer(d.bench.flags.Timeout)
	defer limit.Stop()
	select {
	case <-ended:
	case <-limit.C:
		d.failRun(d.callError(dial.ErrSilent))
		cancel()
		<-ended
	}
}

// writeBatches writes the messages that are due, until the run is over. readResults reports the
// error of a failed write.
func (d *driver) writeBatches(
	ctx context.Context, stream benchStream, slots chan struct{}, ended <-chan struct{},
) {
	for {
		select {
		case slots <- struct{}{}:
		case <-ended:
			return
		case <-ctx.Done():
			return
		}
		sequence, request, ok := d.awaitMessage(ctx)
		if !ok {
			return
		}
		batch := d.fillBatch([]*controlv1.StreamedSend{{Sequence: sequence, Send: request}}, slots)
		if stream.Send(&controlv1.SendStreamRequest{Sends: batch}) != nil {
			return
		}
	}
}

// fillBatch adds to a batch the messages that are due already and may be in flight.
func (d *driver) fillBatch(
	batch []*controlv1.StreamedSend, slots chan struct{},
) []*controlv1.StreamedSend {
	for size := proto.Size(batch[0]); size < dial.MaxBatchBytes &&
		len(batch) < d.flags.Batch; {
		select {
		case slots <- struct{}{}:
		default:
			return batch
		}
		sequence, request, due, ok := d.takeMessage()
		if !ok || due > 0 {
			<-slots
			return batch
		}
		batch = append(batch, &controlv1.StreamedSend{Sequence: sequence, Send: request})
		size += proto.Size(request)
	}
	return batch
}

// readResults reads results until the stream ends.
func (d *driver) readResults(stream benchStream, slots <-chan struct{}) {
	for {
		response, err := stream.Recv()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				d.failRun(d.callError(err))
			}
			return
		}
		for _, result := range response.GetResults() {
			var failed error
			if s := result.GetError(); s != nil {
				failed = d.callError(status.ErrorProto(s))
			}
			d.recordResult(result.GetSequence(), result.GetReceipt(), failed)
			<-slots
		}
		if response.GetGoingAway() != nil {
			d.failRun(errHubLeaves)
		}
	}
}

func (d *driver) callError(err error) error {
	return d.bench.hub.WordError(err, d.bench.flags.Timeout)
}

// expectedDeliveries returns how many messages must reach clients, according to the receipts.
func (d *driver) expectedDeliveries() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.counts.matched - d.counts.dropped
}

// awaitDeliveries waits until the clients have the messages that the receipts count.
func (d *driver) awaitDeliveries() {
	pollUntil(settleLimit, func() bool {
		return d.bench.crowd.Counts().Messages >= d.expectedDeliveries()
	})
}

// watchRate returns the function for the progress line.
func (d *driver) watchRate() func() (float64, string) {
	last, lastAt := int64(0), d.bench.stamp.Now()
	return func() (float64, string) {
		now, n := d.bench.stamp.Now(), d.bench.crowd.Counts().Messages
		rate := float64(n-last) / (now - lastAt).Seconds()
		last, lastAt = n, now
		return (now - d.pace.start).Seconds(), groupDigits(int64(rate)) + " deliveries/s"
	}
}

// reportSends reports all figures but those of the hub.
func (d *driver) reportSends(took time.Duration) {
	b, n := d.bench, d.bench.crowd.Counts()
	d.mu.Lock()
	defer d.mu.Unlock()
	r := b.report
	r.measured, r.Duration = true, roundFigure(took.Seconds())
	r.gaps = &d.gaps
	r.benchSends = &benchSends{
		benchShape: d.flags.makeShape(d.flags.Rate, d.inFlight), PayloadBytes: d.flags.Size,
		Sends: d.results, SendsPerSecond: perSecond(d.results, took),
		Unanswered: d.sent - d.results,
		Deliveries: n.Messages, DeliveriesPerSecond: perSecond(n.Messages, took),
		Latency: toMillis(b.crowd.Latency()), Receipt: toMillis(d.receipts.Latency()),
		Matched: d.counts.matched, Written: d.counts.written, Dropped: d.counts.dropped,
		Missing:     d.counts.matched - d.counts.dropped - n.Messages,
		Unreachable: d.gaps.GetUnreachableHubs(),
	}
	if d.isOrdered() {
		r.Disordered = n.Disordered
	}
}

// isOrdered reports whether the messages of the run have an order. Calls that overlap have none,
// and neither have several streams.
func (d *driver) isOrdered() bool { return !d.flags.Unary && d.flags.Streams == 1 }
