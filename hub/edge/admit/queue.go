package admit

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub/edge/lobby"
	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/internal/repeats"
)

const (
	// MaxHold bounds the time for which a handshake is held. SDKs and proxies wait longer for an
	// answer.
	MaxHold = 5 * time.Second
	// MaxRate is the largest rate, in clients per second.
	MaxRate = 1_000_000
	// maxRetry bounds the line of refused clients. A client that was refused once is back within
	// the 60 s for which its connection waits.
	maxRetry = 30 * time.Second
	// newShare is the divisor that gives the share of new clients, of turns and of places, while
	// clients resume.
	newShare = 8
	// leastTurn bounds how often the timer fires. Handshakes whose turns come within leastTurn are
	// admitted together.
	leastTurn = time.Millisecond
	// warnEvery is the least time between two log lines about refused clients.
	warnEvery = 10 * time.Second
)

// The reasons for which Admit refuses a client.
var (
	ErrQueueFull   = errors.New("too many handshakes are held")
	ErrHeldTooLong = errors.New("the handshake was held for too long")
	ErrClosed      = errors.New("the queue is closed")
)

// errDropped ends a held handshake whose place the lobby gave to a newcomer.
var errDropped = errors.New("the lobby dropped the client")

// Class is a kind of clients.
type Class uint8

// The classes, those that are admitted first in front.
const (
	Resume  Class = iota // the client has proven that it owns a connection of this hub
	Connect              // the client is new

	classes
)

// classNames are the values of the label "class".
var classNames = [classes]string{Resume: "resume", Connect: "connect"}

// Config configures a Queue.
type Config struct {
	// Rate is the number of clients that are admitted per second, and the number that may be
	// admitted at once after a pause. Retry-After counts whole seconds, so the clients of a second
	// may come together. 0: no limit.
	Rate int
	// Most bounds the handshakes that are held at once.
	Most int

	Logger  *slog.Logger          // gets refusals at Warn, at most a line each 10 s; may be nil
	Metrics prometheus.Registerer // nil: the instruments are not registered
}

// Validate returns all problems of c.
func (c *Config) Validate() config.Problems {
	var p config.Problems
	p.Require(c.Rate >= 0 && c.Rate <= MaxRate,
		"Rate", "is %d, must be from 0 to %d", c.Rate, MaxRate)
	p.RequirePositive("Most", c.Most)
	return p
}

// Queue admits clients at a rate, and holds those above it. It is safe for concurrent use.
type Queue struct {
	// Static after New.
	config   Config
	interval time.Duration // between two tokens; 0: no limit
	most     int           // handshakes that are held at once
	metrics  *metrics
	started  time.Time
	closed   chan struct{} // closed by Close
	close    func()        // closes closed, only the first time

	refusals repeats.Counter[struct{}] // decides which refusals get a log line

	mu sync.Mutex
	// full is when the bucket of tokens will be full if none is taken. All times are since started.
	full   time.Duration
	held   [classes]list.List // of *place
	row    int                // turns of Resume in a row while a new client waited
	timer  *time.Timer        // gives the next turn; nil until a handshake is held
	booked time.Duration      // when the refused client that was told the latest time should come
}

// place is where a handshake is held. Queue.mu guards it until decided is closed. Then it does not
// change any more.
type place struct {
	class   Class
	element *list.Element // of Queue.held; nil: the place is not held any more
	err     error         // why it was refused; nil: it was admitted, or nothing is decided
	decided chan struct{} // closed when the place is admitted or refused
}

// New returns an empty queue.
func New(c Config) (*Queue, error) {
	if err := c.Validate().Err(); err != nil {
		return nil, fmt.Errorf("admit config: %w", err)
	}
	c.Logger = config.Logger(c.Logger)
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, err
	}
	q := &Queue{config: c, metrics: m, started: time.Now(), closed: make(chan struct{})}
	q.close = sync.OnceFunc(func() { close(q.closed) })
	if c.Rate > 0 {
		q.interval = time.Second / time.Duration(c.Rate)
		q.most = min(c.Most, int(MaxHold/q.interval))
	}
	return q, nil
}

// Close refuses all held handshakes, and all later ones that would be held.
func (q *Queue) Close() { q.close() }

// Admit returns nil when the client may connect. It holds the handshake until then: ctx must be the
// context of the request, which ends with the client. onHold is called before the handshake is
// held; nil: no call.
func (q *Queue) Admit(ctx context.Context, class Class, onHold func()) error {
	if q.interval == 0 {
		return nil
	}
	p, err := q.enter(class)
	if p != nil {
		if onHold != nil {
			onHold()
		}
		began := time.Now()
		err = q.holdPlace(ctx, p)
		q.metrics.seconds[class].Observe(time.Since(began).Seconds())
	}
	if errors.Is(err, ErrQueueFull) || errors.Is(err, ErrHeldTooLong) {
		q.logRefusal(err)
	}
	return err
}

// holdPlace waits until the place is admitted or refused, or the client has gone.
func (q *Queue) holdPlace(ctx context.Context, p *place) error {
	stranger := lobby.StrangerOf(ctx)
	gone := stranger.Queue()
	defer stranger.Serve()
	q.metrics.held[p.class].Inc()
	defer q.metrics.held[p.class].Dec()
	limit := time.NewTimer(MaxHold)
	defer limit.Stop()
	select {
	case <-p.decided:
		return p.err
	case <-limit.C:
		return q.endHold(p)
	case <-q.closed:
		q.leave(p)
		return ErrClosed
	case <-gone:
		q.leave(p)
		return errDropped
	case <-ctx.Done():
		q.leave(p)
		return ctx.Err()
	}
}

// enter takes a token, or a place in the queue if there is no token. It returns nil and nil for a
// token.
func (q *Queue) enter(class Class) (*place, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Since(q.started)
	q.giveTurnsLocked(now)
	if q.lenLocked() == 0 && q.takeTokenLocked(now) {
		return nil, nil
	}
	if !q.makeRoomLocked(class) {
		return nil, ErrQueueFull
	}
	p := &place{class: class, decided: make(chan struct{})}
	p.element = q.held[class].PushBack(p)
	if q.lenLocked() == 1 {
		q.giveTurnsLocked(now) // sets the timer
	}
	return p, nil
}

// makeRoomLocked reports whether the queue has a place for a client of that class. The newest new
// client makes room for a client that resumes.
func (q *Queue) makeRoomLocked(class Class) bool {
	isFull := q.lenLocked() >= q.most
	if class == Connect {
		return !isFull
	}
	keptForNew := min((q.most+newShare-1)/newShare, q.most/2) // at least one, not the only one
	if q.held[Resume].Len() >= q.most-keptForNew {
		return false
	}
	if isFull {
		q.decideLocked(q.held[Connect].Back().Value.(*place), ErrQueueFull)
	}
	return true
}

// decideLocked admits a place that is held, or refuses it for a reason.
func (q *Queue) decideLocked(p *place, err error) {
	q.removeLocked(p)
	p.err = err
	close(p.decided)
}

// removeLocked takes a place out of the queue.
func (q *Queue) removeLocked(p *place) {
	q.held[p.class].Remove(p.element)
	p.element = nil
}

// endHold ends the hold of a place whose time is over. It returns nil if the place has its turn at
// the last moment.
func (q *Queue) endHold(p *place) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveTurnsLocked(time.Since(q.started))
	if p.element == nil {
		return p.err
	}
	q.removeLocked(p)
	return ErrHeldTooLong
}

// leave gives a place up, or its token if it has a token already.
func (q *Queue) leave(p *place) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case p.element != nil:
		q.removeLocked(p)
	case p.err == nil:
		q.full -= q.interval
		q.giveTurnsLocked(time.Since(q.started))
	}
}

// takeTokenLocked takes a token out of the bucket, if there is a token.
func (q *Queue) takeTokenLocked(now time.Duration) bool {
	if q.nextTokenLocked(now) > 0 {
		return false
	}
	q.full = max(q.full, now) + q.interval
	return true
}

// nextTokenLocked returns the time until there is a token. It is 0 or less if there is a token.
func (q *Queue) nextTokenLocked(now time.Duration) time.Duration {
	return q.full - now - time.Duration(q.config.Rate-1)*q.interval
}

// giveTurnsLocked admits held handshakes as long as there are tokens. Then it sets the timer for
// the next turn.
func (q *Queue) giveTurnsLocked(now time.Duration) {
	for q.lenLocked() > 0 && q.takeTokenLocked(now) {
		q.decideLocked(q.nextLocked(), nil)
	}
	if q.lenLocked() == 0 {
		return
	}
	wait := max(q.nextTokenLocked(now), leastTurn)
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, q.onTimer)
	} else {
		q.timer.Reset(wait)
	}
}

func (q *Queue) onTimer() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveTurnsLocked(time.Since(q.started))
}

// nextLocked returns the place whose turn it is.
func (q *Queue) nextLocked() *place {
	class := Resume
	switch resumes, news := &q.held[Resume], &q.held[Connect]; {
	case resumes.Len() == 0, news.Len() > 0 && q.row == newShare-1:
		class, q.row = Connect, 0
	case news.Len() > 0:
		q.row++
	}
	return q.held[class].Front().Value.(*place)
}

func (q *Queue) lenLocked() int { return q.held[Resume].Len() + q.held[Connect].Len() }

// RetryAfter returns when a client that Admit has refused should come back. It gives the client a
// place in the line of refused clients.
func (q *Queue) RetryAfter() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Since(q.started)
	queue := now + time.Duration(q.lenLocked())*q.interval
	if q.booked+q.interval > now+maxRetry {
		q.booked = queue
	}
	q.booked = max(q.booked, queue) + q.interval
	turn := q.booked - now
	return turn - rand.N(min(turn, time.Duration(q.most)*q.interval))
}

// Jitter returns a random time from half of d to one and a half times d. A crowd that is refused
// for a reason other than the rate should come back after it.
func Jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// Left returns how many clients would be admitted at once now. Without a limit it is MaxRate.
func (q *Queue) Left() int {
	if q.interval == 0 {
		return MaxRate
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Since(q.started)
	q.giveTurnsLocked(now)
	if q.lenLocked() > 0 {
		return 0
	}
	taken := (max(q.full, now) - now + q.interval - 1) / q.interval
	return q.config.Rate - int(taken)
}

// logRefusal logs a refused client, unless it has logged within warnEvery.
func (q *Queue) logRefusal(err error) {
	n, say := q.refusals.Note(struct{}{}, warnEvery)
	if !say {
		return
	}
	q.config.Logger.Warn("clients are refused: more connect than the rate allows",
		slog.String("reason", err.Error()), slog.Int("connect_rate", q.config.Rate),
		slog.Int("not_logged", max(n-1, 0)))
}
