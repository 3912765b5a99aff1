package bench

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/trust"
	"github.com/connhub/connhub/load"
)

// Command is `connhub bench`. Package kong fills it in and runs one of its commands with the
// context and the terminal.
type Command struct {
	// Fanout: to a group of all connections.
	Fanout benchFanoutCmd `cmd:"" help:"Send to one group of all connections: deliveries per second, latency."`
	// Unicast: to single connections.
	Unicast benchUnicastCmd `cmd:"" help:"Send to single connections at random: sends per second, latency."`
	// Connect: opens and closes.
	Connect benchConnectCmd `cmd:"" help:"Open and close connections: connections per second, latency."`
	// Idle: holds.
	Idle benchIdleCmd `cmd:"" help:"Hold idle connections: memory of the hub for each."`
}

// Help is shown by --help below the usage.
func (Command) Help() string {
	return `Each command opens WebSocket connections to a running hub, puts load on it, prints
figures and closes the connections. docs/bench.md explains the figures.`
}

// benchFlags are common to all benches.
type benchFlags struct {
	Connections int      `default:"1000" placeholder:"N" group:"Load" help:"Connections to open, each with its own user. (${default})"`
	Concurrency int      `default:"64" placeholder:"N" group:"Load" help:"Concurrent handshakes. (${default})"`
	URL         []string `name:"url" sep:"none" placeholder:"URL" group:"Hub" help:"Address for clients, as ws://HOST:PORT; repeatable, which spreads the connections. (the URL in the hub's tokens)"`
	OpsURL      []string `name:"ops-url" sep:"none" placeholder:"URL" group:"Hub" help:"Address of the hub's operations port, for its CPU and memory; repeat it for each hub of a cluster. (http://127.0.0.1:9100 with a hub on this machine)"`
	OpsSecret   string   `name:"ops-secret-file" placeholder:"FILE" group:"Hub" help:"File with the secret of the operations port, if it needs one."`

	dial.Flags
}

const (
	// closedLimit is the time that the hub has to forget the group of a bench after all members
	// have left.
	closedLimit = 5 * time.Second
	// closedPoll is the time between two requests for the group.
	closedPoll = 50 * time.Millisecond
)

func (f *benchFlags) validateFlags() error {
	switch {
	case f.Connections < 1:
		return terminal.UsageErrorf("--connections %d: want 1 or more", f.Connections)
	case f.Concurrency < 1:
		return terminal.UsageErrorf("--concurrency %d: want 1 or more", f.Concurrency)
	}
	for _, one := range f.URL {
		if _, err := clientsURL(one); err != nil {
			return err
		}
	}
	return nil
}

// bench is a run: its connections, its measurements, and the hub's own figures.
type bench struct {
	// Static.
	flags *benchFlags
	hub   *dial.Client
	t     *terminal.Terminal
	stamp *load.Stamp
	name  string // of this run: of the group, and the beginning of users
	// groups of each connection: the group of all connections, and groups of its own
	groups int

	crowd    *load.Crowd // set by open
	ops      *benchOps   // set by open
	progress *benchProgress
	report   *benchReport
}

// benchNameLength is the part of a user's 16 bytes that names the run.
const benchNameLength = 8

// runBench runs a bench. No connection is open yet when it calls measure. measure may leave its
// connections open.
func (f *benchFlags) runBench(
	ctx context.Context, t *terminal.Terminal, name string,
	measure func(context.Context, *bench) error,
) error {
	if err := f.validateFlags(); err != nil {
		return err
	}
	return f.WithClient(func(h *dial.Client) error {
		b := &bench{
			flags: f, hub: h, t: t, stamp: load.NewStamp(),
			name: strings.ToLower(rand.Text()[:benchNameLength]), groups: 1,
			report: &benchReport{Bench: name}, progress: newBenchProgress(t),
		}
		err := b.measureAndClose(ctx, measure)
		b.progress.stopDrawing()
		b.report.Interrupted = ctx.Err() != nil
		if b.report.measured {
			err = errors.Join(b.report.joinProblems(err), b.printReport())
		}
		if ctx.Err() != nil {
			return context.Canceled
		}
		return err
	})
}

// measureAndClose calls measure, then closes the connections that it left open.
func (b *bench) measureAndClose(
	ctx context.Context, measure func(context.Context, *bench) error,
) error {
	err := measure(ctx, b)
	if b.crowd == nil {
		return err
	}
	b.report.Lost, b.report.lostWhy = b.crowd.Counts().Lost, terminal.MakePrintable(b.crowd.Lost())
	held := b.crowd.Counts().Open
	b.progress.showPhase("closing", float64(held), func() (float64, string) {
		closed := held - b.crowd.Counts().Open
		return float64(closed), fmt.Sprintf("%s of %s connections", groupDigits(closed),
			groupDigits(held))
	})
	b.crowd.Close()
	return errors.Join(err, b.awaitGroupGone(context.WithoutCancel(ctx)))
}

// awaitGroupGone waits until the hub has forgotten the group: then all members have left.
func (b *bench) awaitGroupGone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, closedLimit)
	defer cancel()
	tick := time.NewTicker(closedPoll)
	defer tick.Stop()
	for {
		response, err := controlv1.NewGroupServiceClient(b.hub).GetGroup(ctx,
			&controlv1.GetGroupRequest{Namespace: b.flags.Namespace, Group: b.groupName()})
		// the group is gone, or the hub is, which the measurement has reported
		if err != nil && ctx.Err() == nil {
			return nil //nolint:nilerr // as said
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the hub still holds %s that were closed",
				terminal.CountNoun(response.GetGroup().GetMembers(), "connection"))
		}
	}
}

func (b *bench) groupName() string { return "bench-" + b.name }

// openCrowd opens the connections. It samples the hub before and after that.
func (b *bench) openCrowd(
	ctx context.Context,
) (before, after opsSample, took time.Duration, err error) {
	urls, err := b.issueURLs(ctx)
	if err != nil {
		return before, after, 0, err
	}
	config := load.DefaultConfig()
	config.URLs, config.Stamp, config.Ordered, config.Concurrency = urls, b.stamp, true,
		b.flags.Concurrency
	if config.TLS, err = b.flags.clientsTLS(); err != nil {
		return before, after, 0, err
	}
	if b.crowd, err = load.New(config); err != nil {
		return before, after, 0, err
	}
	b.ops = newBenchOps(b.flags)
	b.ops.collectGarbage(ctx)
	before = b.ops.takeSample(ctx)
	b.progress.showPhase("connecting", float64(len(urls)), func() (float64, string) {
		n := b.crowd.Counts().Opened
		return float64(n), fmt.Sprintf("%s of %s connections", groupDigits(n),
			groupDigits(len(urls)))
	})
	began := time.Now()
	err = b.crowd.Open(ctx)
	took = time.Since(began)
	after = b.ops.takeSample(ctx)
	b.report.Connections, b.report.Groups = b.crowd.Counts().Opened, b.groups
	if err != nil {
		return before, after, took, b.openError(err)
	}
	b.ops.checkLoad(before, after, len(urls))
	return before, after, took, nil
}

// openError adds advice to the error of a dial.
func (b *bench) openError(err error) error {
	hint := ""
	if _, ok := errors.AsType[*net.OpError](err); ok && len(b.flags.URL) == 0 {
		hint = ". --url names another address for clients"
	}
	return fmt.Errorf("%s%s", terminal.MakePrintable(err.Error()), hint)
}

// clientsTLS returns a TLS configuration for the clients' connections that trusts the certificates
// of --tls-ca-file.
func (f *benchFlags) clientsTLS() (*tls.Config, error) {
	if f.TLSCAFile == "" {
		return nil, nil //nolint:nilnil // the system's certificates
	}
	c, err := trust.File("--tls-ca-file", f.TLSCAFile)
	if err != nil {
		return nil, terminal.UsageErrorf("%w", err)
	}
	return c, nil
}

// benchGroupFlags are the flags of the benches that do not send.
type benchGroupFlags struct {
	Groups int `default:"2" placeholder:"N" group:"Load" help:"Groups of each connection: the group of all connections, and groups of its own. (${default})"`
}

// maxBenchGroups is the most groups that a token can name.
const maxBenchGroups = 128

func (f *benchGroupFlags) validateGroups() error {
	if f.Groups < 1 || f.Groups > maxBenchGroups {
		return terminal.UsageErrorf("--groups %d: want 1 to %d", f.Groups, maxBenchGroups)
	}
	return nil
}

type benchConnectCmd struct {
	benchGroupFlags
	benchFlags
}

// Help is shown by --help below the usage.
func (benchConnectCmd) Help() string {
	return `A handshake is timed from the dial to the hub's answer. The hub checks the connection's
token and attaches its user and groups within that time. The time for issuing tokens is not
measured.`
}

func (c *benchConnectCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	if err := c.validateGroups(); err != nil {
		return err
	}
	return c.runBench(ctx, t, "connect", func(ctx context.Context, b *bench) error {
		b.groups = c.Groups
		before, after, took, err := b.openCrowd(ctx)
		opened := b.report.Connections
		if opened == 0 {
			return err
		}
		r := b.report
		r.measured, r.Duration = true, roundFigure(took.Seconds())
		r.benchConnects = &benchConnects{
			Concurrency: c.Concurrency, ConnectsPerSecond: perSecond(opened, took),
			Handshake: toMillis(b.crowd.Handshakes()),
		}
		b.reportCPU(before, after, took, func(h *benchHub, micros float64) {
			h.PerConnect = roundFigure(micros / float64(opened))
		})
		return err
	})
}

type benchIdleCmd struct {
	Duration time.Duration `default:"10s" placeholder:"DURATION" group:"Load" help:"How long to hold the connections. (${default})"`

	benchGroupFlags
	benchFlags
}

// Help is shown by --help below the usage.
func (benchIdleCmd) Help() string {
	return `The memory is the growth of the hub's process; it needs the operations port (--ops-url).
Start the hub afresh, because a hub reuses memory that it freed before. A hub sends its first
heartbeats after 25 s; hold the connections longer to measure them.`
}

func (c *benchIdleCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	if c.Duration <= 0 {
		return terminal.UsageErrorf("--duration %v: want more than 0", c.Duration)
	}
	if err := c.validateGroups(); err != nil {
		return err
	}
	return c.runBench(ctx, t, "idle", func(ctx context.Context, b *bench) error {
		b.groups = c.Groups
		before, after, _, err := b.openCrowd(ctx)
		if err != nil {
			return err
		}
		// garbage of the handshakes; memory returned to the system shows later
		b.ops.collectGarbage(ctx)
		began := time.Now()
		b.progress.showPhase("holding", c.Duration.Seconds(), func() (float64, string) {
			held := time.Since(began)
			return held.Seconds(), fmt.Sprintf("%s connections, %s of %v",
				groupDigits(b.crowd.Counts().Open), terminal.SpanWords(held), c.Duration)
		})
		start := b.ops.takeSample(ctx)
		waitFor(ctx, c.Duration)
		// The sample is taken though Ctrl-C came.
		end := b.ops.takeSample(context.WithoutCancel(ctx))
		held, r := time.Since(began), b.report
		r.measured, r.Duration = true, roundFigure(held.Seconds())
		r.Connections = b.crowd.Counts().Open
		r.benchHolds = &benchHolds{Pings: b.crowd.Counts().Pings}
		b.reportCPU(start, end, held, func(h *benchHub, _ float64) {
			came := float64(after.connections - before.connections)
			// At or below 0 the figure is left out: the hub reused free memory.
			h.Memory = max(roundFigure(float64(end.memory-before.memory)/came), 0)
			h.Heap = max(roundFigure(float64(end.heap-before.heap)/came), 0)
		})
		return nil
	})
}

// waitFor waits for d, or until ctx is done.
func waitFor(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// benchSendFlags are the flags of the benches that send.
type benchSendFlags struct {
	Size     int           `default:"128" placeholder:"BYTES" group:"Load" help:"Payload of a message. (${default})"`
	Rate     float64       `default:"0" placeholder:"N" group:"Load" help:"Sends per second, independent of receipts (open loop); 0: the next message goes when a receipt has come. (${default})"`
	Duration time.Duration `default:"10s" placeholder:"DURATION" group:"Load" help:"How long to send. (${default})"`

	shapeFlags
}

func (f *benchSendFlags) validateLoad(inFlight int) error {
	switch {
	case f.Size < load.StampSize || f.Size > dial.MaxPayload:
		return terminal.UsageErrorf("--size %d: want %d to %d", f.Size, load.StampSize,
			dial.MaxPayload)
	case f.Rate < 0 || f.Rate > 1e6:
		return terminal.UsageErrorf("--rate %v: want 0 to 1000000", f.Rate)
	case f.Duration <= 0:
		return terminal.UsageErrorf("--duration %v: want more than 0", f.Duration)
	case inFlight < 1 || inFlight > dial.MaxInFlight:
		return terminal.UsageErrorf("--in-flight %d: want 1 to %d", inFlight, dial.MaxInFlight)
	case f.Rate > 0:
		return f.validateShape(dial.MaxInFlight, "the limit of sends without a receipt")
	}
	return f.validateShape(inFlight, "the number of --in-flight")
}

const inFlightHelp = `Without --rate the next message is sent when a receipt has come back: it
confirms that the hub has written the message to every connection. With --rate each message is due
at a fixed time, and its latency counts from that time.

The receipts are checked against the counts of the clients. The exit code is 1 when a message is
missing, came twice or in the wrong order, when a connection was lost or a send failed.`

type benchFanoutCmd struct {
	InFlight int `default:"1" placeholder:"N" group:"Load" help:"Without --rate: messages without a receipt at the same time. (${default})"`

	benchSendFlags
	benchFlags
}

// Help is shown by --help below the usage.
func (benchFanoutCmd) Help() string { return inFlightHelp }

func (c *benchFanoutCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	if err := c.benchSendFlags.validateLoad(c.InFlight); err != nil {
		return err
	}
	return c.runBench(ctx, t, "fanout", func(ctx context.Context, b *bench) error {
		if _, _, _, err := b.openCrowd(ctx); err != nil {
			return err
		}
		target := &controlv1.Target{Groups: []string{b.groupName()}}
		return b.runSends(ctx, &c.benchSendFlags, c.InFlight, func() *controlv1.Target {
			return target
		})
	})
}

type benchUnicastCmd struct {
	InFlight int `default:"64" placeholder:"N" group:"Load" help:"Without --rate: messages without a receipt at the same time. (${default})"`

	benchSendFlags
	benchFlags
}

// Help is shown by --help below the usage.
func (benchUnicastCmd) Help() string { return inFlightHelp }

func (c *benchUnicastCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	if err := c.benchSendFlags.validateLoad(c.InFlight); err != nil {
		return err
	}
	return c.runBench(ctx, t, "unicast", func(ctx context.Context, b *bench) error {
		if _, _, _, err := b.openCrowd(ctx); err != nil {
			return err
		}
		targets, err := b.listTargets(ctx)
		if err != nil {
			return err
		}
		return b.runSends(ctx, &c.benchSendFlags, c.InFlight, func() *controlv1.Target {
			return targets[randomIndex(len(targets))]
		})
	})
}

// reportCPU reports the hub's use of CPU between two samples. more adds the figures of a single
// bench.
func (b *bench) reportCPU(
	from, to opsSample, took time.Duration, more func(h *benchHub, micros float64),
) {
	why := cmp.Or(b.ops.unknown, from.unknown, to.unknown)
	if why != "" {
		b.report.HubUnknown = why
		return
	}
	seconds := to.cpu - from.cpu
	h := &benchHub{
		CPUSeconds: roundFigure(seconds),
		CPUCores:   roundFigure(seconds / took.Seconds()),
	}
	more(h, seconds*1e6)
	b.report.Hub = h
}
