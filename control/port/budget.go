package port

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/control/failure"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
)

const (
	// MinCallBytes is the least of Config.CallBytes. A single caller may hold a third, which must
	// have room for some requests of the largest size.
	MinCallBytes = 32 << 20
	// DefaultCallBytes is CallBytes of DefaultConfig. A single caller may have 10,000 small calls
	// in flight, or some 18 requests of the largest size.
	DefaultCallBytes = 256 << 20

	// CallWeight is the bytes that a unary call counts for beside its message: its goroutine, its
	// headers, its stream, its answer (answerRoom).
	CallWeight = 8 << 10
	// StreamWindow is the bytes of a stream that the transport takes while the hub does not read.
	// An open stream counts for as much.
	StreamWindow = 256 << 10
	// connWindow is the bytes of all streams of a connection that may be on their way at once. The
	// transport opens it again when bytes come, read or not. So it bounds the speed of a
	// connection, and not its memory.
	connWindow = 4 << 20
	// subscribeWeight is the bytes that a subscription counts for while no event waits for it: its
	// goroutines, the first events of its queue (events.ownBytes), and unwrittenBytes. A connection
	// may hold as many subscriptions as a hub takes, also with MinCallBytes. Events that wait count
	// beside it (Account), and so do large responses (heldStream).
	subscribeWeight = 128 << 10
	// unwrittenBytes is the bytes of a stream that the transport keeps to be written before Send
	// waits, beside a whole message.
	unwrittenBytes = 64 << 10

	// RoomPatience is how long a stream waits for room for its next message.
	RoomPatience = time.Second
)

// budget bounds the memory that the calls of backends hold in the process.
//
// Problem: a caller must not take the memory that its neighbours need. The number of callers is
// unknown, and a single caller shall have much.
//
// Rule: a credential may hold at most as much as stays free. Each of its connections may hold at
// most as much as stays free, less the bytes that its credential holds.
//
// So a single caller may hold a third. Callers that take all they can leave a share as large as
// theirs for the next caller. A connection that holds little finds room.
type budget struct {
	// Static.
	limit   int64
	refused prometheus.Counter

	mu          sync.Mutex
	held        int64
	credentials map[string]*int64 // bytes held, by name of the secret
	next        chan struct{}     // closed by the next release; nil: no caller waits for it
}

// account counts the bytes that a caller holds: a credential on a connection. A nil account has no
// bound.
type account struct {
	budget     *budget
	credential *int64 // guarded by budget.mu

	// Guarded by budget.mu.
	held    int64
	answers int64 // of held: answers that the transport has not written
	ended   bool  // the connection is closed: the transport holds no answer
}

func newBudget(limit int64) *budget {
	return &budget{
		limit: limit, credentials: make(map[string]*int64),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "connhub_grpc_calls_refused_total",
			Help: "Calls, messages of streams and sends of streams that were refused because " +
				"their caller held as much of the bytes for calls as it may " +
				"(RESOURCE_EXHAUSTED, TOO_MANY_CALLS).",
		}),
	}
}

// openAccount returns an account for a connection of a credential.
func (b *budget) openAccount(credential string) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	of := b.credentials[credential]
	if of == nil {
		of = new(int64)
		b.credentials[credential] = of
	}
	return &account{budget: b, credential: of}
}

// heldBytes returns the bytes that all accounts hold.
func (b *budget) heldBytes() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}

// accountOf returns the account of a call; nil: nothing is counted.
func accountOf(ctx context.Context) *account { return callOf(ctx).account }

// reserveBytes takes bytes until releaseBytes. It reports false, and takes nothing, if the caller
// may not hold so many more now.
func (a *account) reserveBytes(bytes int64) bool {
	if a == nil {
		return true
	}
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	return a.reserveBytesLocked(bytes)
}

func (a *account) reserveBytesLocked(bytes int64) bool {
	free := a.budget.limit - a.budget.held - bytes
	ofCredential, mine := *a.credential+bytes, a.held+bytes
	if ofCredential > free || mine > free-ofCredential {
		return false
	}
	a.budget.held += bytes
	*a.credential, a.held = ofCredential, mine
	return true
}

// reserveSpare is reserveBytes for bytes that the caller can do without. It leaves at least as much
// room for the calls of the caller.
func (a *account) reserveSpare(bytes int64) bool {
	if a == nil {
		return true
	}
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	free := a.budget.limit - a.budget.held - bytes
	ofCredential, mine := *a.credential+bytes, a.held+bytes
	return 2*ofCredential <= free && 4*mine <= free-ofCredential && a.reserveBytesLocked(bytes)
}

// releaseBytes gives bytes back.
func (a *account) releaseBytes(bytes int64) {
	if a == nil || bytes == 0 {
		return
	}
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.releaseBytesLocked(bytes)
}

func (a *account) releaseBytesLocked(bytes int64) {
	b := a.budget
	a.held -= bytes
	*a.credential -= bytes
	b.held -= bytes
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}

// keepAnswer counts reserved bytes, and more bytes that it reserves, as an answer until
// releaseAnswer or the end of the connection. It reports false, and changes nothing, if the caller
// may not hold more now.
func (a *account) keepAnswer(reserved, more int64) bool {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	if a.ended {
		a.releaseBytesLocked(reserved)
		return true
	}
	if more > 0 && !a.reserveBytesLocked(more) {
		return false
	}
	a.answers += reserved + more
	return true
}

// releaseAnswer gives back the bytes of a written answer.
func (a *account) releaseAnswer(bytes int64) {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	if !a.ended {
		a.answers -= bytes
		a.releaseBytesLocked(bytes)
	}
}

// endAnswers gives back the answers of a closed connection: the transport forgets the unwritten
// answers.
func (a *account) endAnswers() {
	a.budget.mu.Lock()
	defer a.budget.mu.Unlock()
	a.ended = true
	a.releaseBytesLocked(a.answers)
	a.answers = 0
}

// reserveSoon is reserveBytes that waits for room, for RoomPatience at most.
func (a *account) reserveSoon(ctx context.Context, bytes int64) bool {
	if a.reserveBytes(bytes) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, RoomPatience)
	defer cancel()
	return a.awaitRoom(ctx, bytes)
}

// awaitRoom is reserveBytes that waits for room until ctx is done. The account must not be nil.
func (a *account) awaitRoom(ctx context.Context, bytes int64) bool {
	for {
		freed := a.budget.nextRelease()
		if a.reserveBytes(bytes) {
			return true
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return false
		}
	}
}

// nextRelease returns a channel that the next release closes.
func (b *budget) nextRelease() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// refuseCall counts a refusal, and returns its error.
func (a *account) refuseCall() error {
	if a != nil {
		a.budget.refused.Inc()
	}
	return failure.ErrTooManyCalls
}

// streamWeight returns the bytes that an open stream counts for.
func streamWeight(fullMethod string) int64 {
	if fullMethod == eventsv1.EventService_Subscribe_FullMethodName {
		return subscribeWeight
	}
	return StreamWindow
}

// holdMessage reserves bytes of a message for the call, until its next message or its end. With
// wait it waits for room, for RoomPatience at most.
func (c *grpcCall) holdMessage(ctx context.Context, bytes int64, wait bool) error {
	reserve := c.account.reserveBytes
	if wait && c.account != nil {
		reserve = func(bytes int64) bool { return c.account.reserveSoon(ctx, bytes) }
	}
	if !reserve(bytes) {
		if err := ctx.Err(); err != nil {
			return err
		}
		return c.account.refuseCall()
	}
	c.held.Add(bytes)
	if c.over.Load() { // the handler has returned, and a goroutine of it still reads
		c.releaseMessage()
	}
	return nil
}

// releaseMessage gives back the bytes that the messages of the call hold.
func (c *grpcCall) releaseMessage() { c.account.releaseBytes(c.held.Swap(0)) }

// endMessages gives back the bytes of all messages, also those that are reserved later.
func (c *grpcCall) endMessages() {
	c.over.Store(true)
	c.releaseMessage()
}
