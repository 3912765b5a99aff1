package control

import (
	"context"
	"sync"
	"time"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

const (
	// maxUnanswered is the most sends of a stream whose result the transport has not taken. It lets a backend have a
	// whole batch on its way.
	maxUnanswered = 1000
	// maxUnansweredBytes is the most bytes of their requests, which a send holds while it waits. A request that is
	// larger goes alone.
	maxUnansweredBytes = 16 << 20
	// maxOverdrawn is the most unanswered sends with which a stream takes more although its caller may hold no more: these
	// fail. With as many or more it waits for its own results to be read.
	maxOverdrawn = 16
	// sendsReserve is what a stream reserves at once for sends, so that few sends have to.
	sendsReserve = 32 * sendWeight
	// maxHold is how long results wait for those of the rest of their batch, to be told in one response.
	maxHold = time.Millisecond
)

// answers is what a stream owes its backend: results, how far it has come, and that the hub leaves. One goroutine
// takes sends, and has the answers of those that are due at once. Another one collects answers, and has those that arrive
// later. Any number notify it.
type answers struct {
	// Static. Each holds one token, for its goroutine to look again.
	news chan struct{} // there may be something to tell
	room chan struct{} // there may be room for a send, or none is taken any more

	account *account // of the caller; nil: nothing is counted

	// work counts the send that was taken, until its taker calls Done. It grows only before ended is set.
	work sync.WaitGroup

	mu         sync.Mutex
	accepted   int64 // the last sequence that is on its way or has its result
	unanswered int   // sends that were taken and whose result the transport has not
	reserved   int64 // of account, for those
	bytes      int   // of their requests
	ready      []answer
	taking     int   // sends that were taken and are not accepted yet
	ended      bool  // no more sends are taken
	end        error // then: what the stream ends with
	leaving    bool  // it ended because the hub leaves
	held       bool  // a batch is being taken: news is for hold to signal
	hold       *time.Timer
}

// answer is the result of one send.
type answer struct {
	result *controlv1.StreamedResult
	bytes  int // of the request, as take was told
}

// report is all there is to tell at one moment.
type report struct {
	answers  []answer
	accepted int64
	leaving  bool // then accepted is final
	last     bool // nothing will follow
}

func newAnswers(of *account) *answers {
	a := &answers{account: of, news: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	a.hold = time.AfterFunc(maxHold, a.signalHeldNews)
	a.hold.Stop()
	return a
}

// signal leaves a token.
func leaveToken(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// batch begins (true) and ends a batch.
func (a *answers) holdNews(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.holdNewsLocked(on)
}

// holdLocked begins to hold news back, or lets it go.
func (a *answers) holdNewsLocked(on bool) {
	a.held = on
	if on {
		a.hold.Reset(maxHold)
		return
	}
	a.hold.Stop()
	leaveToken(a.news)
}

// tick lets go what is held, in case that the next send of the batch takes long to bring on its way.
func (a *answers) signalHeldNews() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held {
		leaveToken(a.news)
		a.hold.Reset(maxHold)
	}
}

// take waits for room for a send whose request has so many bytes, and takes it: then accept and work.Done must follow.
// taken is false when no more are taken. over: the caller may hold no more, so the send must fail.
func (a *answers) admitSend(ctx context.Context, bytes int) (taken, over bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	held := a.held
	for !a.ended && a.mustWaitLocked(bytes, &over) {
		a.holdNewsLocked(false) // what is ready makes room
		a.mu.Unlock()
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

// waitsLocked reports whether a send must wait for room. If not, there is a reserve for it, or it is over.
func (a *answers) mustWaitLocked(bytes int, over *bool) bool {
	if a.isFullLocked(bytes) {
		return true
	}
	*over = !a.reserveSendsLocked(a.weightLocked() + int64(bytes) + sendWeight)
	return *over && a.unanswered >= maxOverdrawn
}

// weightLocked is what the unanswered sends count for.
func (a *answers) weightLocked() int64 { return int64(a.bytes) + int64(a.unanswered)*sendWeight }

// reserveLocked sees to it that so many bytes are reserved; false: the caller may not hold so much.
func (a *answers) reserveSendsLocked(bytes int64) bool {
	missing := bytes - a.reserved
	if missing <= 0 || a.account == nil {
		return true
	}
	if more := max(missing, sendsReserve); a.account.reserve(more) {
		a.reserved += more
		return true
	}
	if missing < sendsReserve && a.account.reserve(missing) {
		a.reserved += missing
		return true
	}
	return false
}

// releaseLocked gives back what is reserved beyond what sends need and will soon need.
func (a *answers) releaseSpareLocked() {
	if spare := a.reserved - a.weightLocked() - sendsReserve; spare >= sendsReserve {
		a.account.release(spare)
		a.reserved -= spare
	}
}

// full reports whether take would wait.
func (a *answers) mustWait(bytes int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	var over bool
	return !a.ended && a.mustWaitLocked(bytes, &over)
}

func (a *answers) isFullLocked(bytes int) bool {
	return a.unanswered >= maxUnanswered || a.unanswered > 0 && a.bytes+bytes > maxUnansweredBytes
}

// accept says that the send that was taken is on its way, or at its end: then with its answer.
func (a *answers) acceptSend(sequence int64, at ...answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepted = sequence
	a.taking--
	a.addAnswersLocked(at...)
}

// put says that a send which was accepted before has its result. Only the goroutine that collects calls it, and collects
// next.
func (a *answers) addLateAnswer(one answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ready = append(a.ready, one)
}

// notify has the goroutine that collects look for what there is to tell, but for a batch that is being taken.
func (a *answers) signalNews() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.held {
		leaveToken(a.news)
	}
}

func (a *answers) addAnswersLocked(some ...answer) {
	a.ready = append(a.ready, some...)
	if !a.held {
		leaveToken(a.news)
	}
}

// finish says that the backend sends no more: because it is through (nil), or what it sent last can't be taken.
func (a *answers) finishSends(err error) {
	a.mu.Lock()
	if !a.ended || a.leaving && err == nil { // it closed its side, and everything was accepted
		a.ended, a.end = true, err
	}
	a.mu.Unlock()
	leaveToken(a.news)
}

// leave takes no more sends because the hub leaves.
func (a *answers) stopTaking() {
	a.mu.Lock()
	if !a.ended {
		a.ended, a.leaving, a.end = true, true, hub.ErrShuttingDown
	}
	a.mu.Unlock()
	leaveToken(a.news)
	leaveToken(a.room)
}

// collect returns what there is to tell. The report has the memory of spare.
func (a *answers) collectReport(spare []answer) report {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := report{answers: a.ready, accepted: a.accepted}
	r.leaving = a.leaving && a.taking == 0
	r.last = a.ended && a.taking == 0 && a.unanswered == len(a.ready)
	clear(spare)
	a.ready = spare[:0]
	return r
}

// told says that the transport has taken the results of sends.
func (a *answers) markTold(some []answer) {
	a.mu.Lock()
	a.unanswered -= len(some)
	for _, one := range some {
		a.bytes -= one.bytes
	}
	a.releaseSpareLocked()
	a.mu.Unlock()
	leaveToken(a.room)
}

// outcome returns what the stream ends with.
func (a *answers) endError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.end
}

// close takes no more and waits until all work is over, which cancel ends.
func (a *answers) closeAndWait(cancel func()) {
	a.mu.Lock()
	a.ended, a.held = true, false
	a.hold.Stop()
	a.mu.Unlock()
	cancel()
	a.work.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.account.release(a.reserved)
	a.reserved = 0
}
