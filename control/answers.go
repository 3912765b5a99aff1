package control

import (
	"context"
	"sync"
	"time"

	"github.com/connhub/connhub/control/port"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

const (
	// maxUnanswered bounds the sends of a stream whose results the transport has not taken. A whole
	// batch fits.
	maxUnanswered = 1000
	// maxUnansweredBytes bounds the bytes of their requests, which a send holds while it waits. A
	// larger request goes alone.
	maxUnansweredBytes = 16 << 20
	// maxOverdrawn is for a stream whose caller may hold no more bytes. Below so many unanswered
	// sends the stream takes a send, which fails. From then on it waits until its results are read.
	maxOverdrawn = 16
	// sendWeight is the bytes that a send of a stream counts for beside its request, until the
	// transport has taken its result.
	sendWeight = 2 << 10
	// sendsReserve is the bytes that a stream reserves at once, so that few sends have to reserve.
	sendsReserve = 32 * sendWeight
	// maxHold is how long results wait for the rest of their batch, to share a response.
	maxHold = time.Millisecond
)

// answers holds the reports that a stream owes its backend: results, the last accepted sequence,
// and that the hub leaves.
//
// The receiving goroutine takes sends, and adds the answers that are due at once. The handler's
// goroutine collects answers, and adds those that arrive later. Any goroutine may call signalNews.
type answers struct {
	// Static. Each holds a single token, which wakes its goroutine.
	news chan struct{} // there may be a report
	room chan struct{} // there may be room for a send, or no more sends are taken

	account port.Account // of the caller

	// beforeWait is called before admitSend waits, without a lock. It accepts the sends that are
	// taken and not accepted. May be nil.
	beforeWait func()

	// work counts taken sends, until their taker calls Done. It grows only before ended is set.
	work sync.WaitGroup

	mu         sync.Mutex
	accepted   int64 // the last sequence that is on its way or has its result
	unanswered int   // taken sends whose results the transport has not taken
	reserved   int64 // bytes of account, for those sends
	bytes      int   // of their requests
	ready      []sendAnswer
	taking     int   // taken sends that are not accepted yet
	ended      bool  // no more sends are taken
	end        error // after ended: the error of the stream
	leaving    bool  // it ended because the hub leaves
	held       bool  // a batch is being taken: only hold signals news
	hold       *time.Timer
}

// sendAnswer is the result of a send.
type sendAnswer struct {
	result *controlv1.StreamedResult
	bytes  int // of the request, as given to admitSend
}

// report holds all news of a moment.
type report struct {
	answers  []sendAnswer
	accepted int64
	leaving  bool // accepted is final, because the hub leaves
	last     bool // no report will follow
}

func newAnswers(of port.Account) *answers {
	a := &answers{account: of, news: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	a.hold = time.AfterFunc(maxHold, a.signalHeldNews)
	a.hold.Stop()
	return a
}

// leaveToken leaves a token in c, unless c has a token.
func leaveToken(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// holdNews holds news back for a batch (true), or lets them go (false).
func (a *answers) holdNews(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.holdNewsLocked(on)
}

// holdNewsLocked is holdNews with a.mu held.
func (a *answers) holdNewsLocked(on bool) {
	a.held = on
	if on {
		a.hold.Reset(maxHold)
		return
	}
	a.hold.Stop()
	leaveToken(a.news)
}

// signalHeldNews lets held news go after maxHold, in case that the next send of the batch takes
// long to begin.
func (a *answers) signalHeldNews() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held {
		leaveToken(a.news)
		a.hold.Reset(maxHold)
	}
}

// admitSend waits for room for a send whose request has so many bytes, and takes the send.
// acceptSends and work.Done must follow. taken is false if no more sends are taken. over means that
// the caller may hold no more bytes, so the send must fail.
func (a *answers) admitSend(ctx context.Context, bytes int) (taken, over bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	held, waited := a.held, false
	for !a.ended && a.mustWaitLocked(bytes, &over) {
		a.holdNewsLocked(false) // results that are told make room
		a.mu.Unlock()
		if !waited && a.beforeWait != nil {
			a.beforeWait()
		}
		waited = true
		select {
		case <-a.room:
		case <-ctx.Done():
		}
		a.mu.Lock()
		if ctx.Err() != nil {
			return false, false
		}
	}
	if a.ended {
		return false, false
	}
	if held && !a.held {
		a.holdNewsLocked(true)
	}
	a.unanswered++
	a.bytes += bytes
	a.taking++
	a.work.Add(1)
	return true, over
}

// mustWaitLocked reports whether a send must wait for room. If not, its bytes are reserved, or over
// is set: the caller may not hold them.
func (a *answers) mustWaitLocked(bytes int, over *bool) bool {
	if a.isFullLocked(bytes) {
		return true
	}
	*over = !a.reserveSendsLocked(a.weightLocked() + int64(bytes) + sendWeight)
	return *over && a.unanswered >= maxOverdrawn
}

// weightLocked returns the bytes that the unanswered sends count for.
func (a *answers) weightLocked() int64 { return int64(a.bytes) + int64(a.unanswered)*sendWeight }

// reserveSendsLocked makes reserved at least bytes. It reports false if the caller may not hold so
// many.
func (a *answers) reserveSendsLocked(bytes int64) bool {
	missing := bytes - a.reserved
	if missing <= 0 {
		return true
	}
	if more := max(missing, sendsReserve); a.account.Reserve(more) {
		a.reserved += more
		return true
	}
	if missing < sendsReserve && a.account.Reserve(missing) {
		a.reserved += missing
		return true
	}
	return false
}

// releaseSpareLocked gives back the reserve beyond the need of the unanswered and the next sends.
func (a *answers) releaseSpareLocked() {
	if spare := a.reserved - a.weightLocked() - sendsReserve; spare >= sendsReserve {
		a.account.Release(spare)
		a.reserved -= spare
	}
}

func (a *answers) isFullLocked(bytes int) bool {
	return a.unanswered >= maxUnanswered || a.unanswered > 0 && a.bytes+bytes > maxUnansweredBytes
}

// acceptSends records that the next taken sends, up to sequence, are on their way or have one of
// the answers at.
func (a *answers) acceptSends(sequence int64, sends int, at ...sendAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepted = sequence
	a.taking -= sends
	a.ready = append(a.ready, at...)
	if !a.held {
		leaveToken(a.news)
	}
}

// addLateAnswer adds the result of a send that was accepted before. Only the collecting goroutine
// calls it, and collects next.
func (a *answers) addLateAnswer(one sendAnswer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = append(a.ready, one)
}

// signalNews wakes the collecting goroutine, unless a batch is being taken.
func (a *answers) signalNews() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.held {
		leaveToken(a.news)
	}
}

// takeNews takes the token of news, if there is one. The caller must collect a report next.
func (a *answers) takeNews() {
	select {
	case <-a.news:
	default:
	}
}

// finishSends records that no more sends come: the backend has closed its side (nil), or its last
// request can't be taken.
func (a *answers) finishSends(err error) {
	a.mu.Lock()
	if !a.ended || a.leaving && err == nil { // the backend closed its side, and all was accepted
		a.ended, a.end = true, err
	}
	a.mu.Unlock()
	leaveToken(a.news)
}

// stopTaking records that no more sends are taken, because the hub leaves.
func (a *answers) stopTaking() {
	a.mu.Lock()
	if !a.ended {
		a.ended, a.leaving, a.end = true, true, hub.ErrShuttingDown
	}
	a.mu.Unlock()
	leaveToken(a.news)
	leaveToken(a.room)
}

// collectReport returns all news since the last report. It keeps the memory of spare for the next
// answers.
func (a *answers) collectReport(spare []sendAnswer) report {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := report{answers: a.ready, accepted: a.accepted}
	r.leaving = a.leaving && a.taking == 0
	r.last = a.ended && a.taking == 0 && a.unanswered == len(a.ready)
	clear(spare)
	a.ready = spare[:0]
	return r
}

// markTold records that the transport has taken results.
func (a *answers) markTold(some []sendAnswer) {
	a.mu.Lock()
	a.unanswered -= len(some)
	for _, one := range some {
		a.bytes -= one.bytes
	}
	a.releaseSpareLocked()
	a.mu.Unlock()
	leaveToken(a.room)
}

// endError returns the error that the stream ends with.
func (a *answers) endError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.end
}

// closeAndWait takes no more sends, and waits until all work has ended. cancel must end the work.
func (a *answers) closeAndWait(cancel func()) {
	a.mu.Lock()
	a.ended, a.held = true, false
	a.hold.Stop()
	a.mu.Unlock()
	cancel()
	a.work.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.account.Release(a.reserved)
	a.reserved = 0
}
