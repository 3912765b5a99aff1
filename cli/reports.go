package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
)

// followReports opens a stream, and calls report with each report of it until the last. Each report
// must come in time.
func followReports[R any](
	ctx context.Context, c *dial.Client,
	open func(context.Context) (grpc.ServerStreamingClient[R], error), report func(*R) error,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(c.Flags.Timeout, func() { cancel(dial.ErrSilent) })
	defer silence.Stop()
	stream, err := open(ctx)
	for err == nil {
		var r *R
		if r, err = stream.Recv(); err != nil {
			break
		}
		silence.Reset(c.Flags.Timeout)
		if err := report(r); err != nil {
			return err
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return c.WordError(causeOr(ctx, err), c.Flags.Timeout)
}

// progressLineEvery is the time between two lines of progress without a terminal.
const progressLineEvery = 5 * time.Second

// reportPrinter prints reports of something that goes on: on a terminal as a line that changes,
// else as a line for each fresh report, and a line in between now and then.
type reportPrinter struct {
	t     *terminal.Terminal
	json  bool
	line  *terminal.Progress // nil: --json
	shown time.Time          // when the last line was printed
}

func newReportPrinter(t *terminal.Terminal, json bool) reportPrinter {
	p := reportPrinter{t: t, json: json}
	if !json {
		p.line = t.NewProgress(nil)
	}
	return p
}

// printReport prints a report, with --json as it is, else in the words for it.
func (p *reportPrinter) printReport(
	r proto.Message, isFresh, isLast bool, words func() string,
) error {
	switch {
	case p.json:
		return dial.PrintJSONLine(p.t, r)
	case isLast:
		p.clearLine()
	case p.line.IsVisible():
		p.line.DrawLine(words())
		return nil
	case !isFresh && p.t.Now().Sub(p.shown) < progressLineEvery:
		return nil
	}
	p.shown = p.t.Now()
	_, err := fmt.Fprintln(p.t.Stdout, words())
	return err
}

// clearLine removes the line that changes.
func (p *reportPrinter) clearLine() {
	if p.line != nil {
		p.line.ClearLine()
	}
}
