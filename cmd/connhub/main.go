package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/alecthomas/kong"

	"github.com/connhub/connhub/cli"
	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/load/bench"
)

const description = `A connection hub: it holds the WebSocket connections of browsers, phones and
devices, and backends send to them over gRPC: to a connection, a user, a group or everyone.`

const startWithDev = `

Start with "connhub dev" and open the page that it names.`

// commandSet is the command line.
type commandSet struct {
	Help helpFlag `short:"h" help:"Show help for a command."`

	Dev   devCmd   `cmd:"" group:"Run a hub" help:"Run a hub on this machine to try things out, with a page to watch."`
	Serve serveCmd `cmd:"" group:"Run a hub" help:"Run a hub."`

	cli.Commands
	Bench bench.Command `cmd:"" group:"Talk to a hub" help:"Measure a hub under load."`

	Version versionCmd `cmd:"" group:"Other" help:"Show the version of this binary."`
}

// helpFlag prints help and ends the parse with errHelpShown; kong's own ends the process.
type helpFlag bool

var errHelpShown = errors.New("help shown")

// BeforeReset is called by kong when the flag is given.
func (helpFlag) BeforeReset(k *kong.Context) error {
	// `connections --help` is about connections, not about its default, `connections list`.
	if n := k.Selected(); n != nil && n.Parent != nil && n.Parent.DefaultCmd == n &&
		!slices.Contains(k.Args, n.Name) {
		k.Path = slices.DeleteFunc(k.Path, func(p *kong.Path) bool { return p.Command == n })
	}
	if err := k.PrintUsage(false); err != nil {
		return err
	}
	return errHelpShown
}

func main() {
	ctx, stop := signalContext(context.Background())
	t := terminal.New(os.Stdin, os.Stdout, os.Stderr)
	t.OwnProcess = true
	code := runProgram(ctx, os.Args[1:], t)
	stop()
	os.Exit(code)
}

// runProgram is the whole program except for the process around it. It returns the exit code.
func runProgram(ctx context.Context, args []string, t *terminal.Terminal) int {
	line, err := newCommandLine(t.Stdout, t.Stderr)
	if err != nil {
		return t.ReportError(err)
	}
	return line.runCommand(ctx, args, t)
}

// commandLine is a parser and the values that it fills in. It is not safe for concurrent use.
type commandLine struct {
	values commandSet
	parser *kong.Kong
}

func newCommandLine(stdout, stderr io.Writer) (*commandLine, error) {
	l := &commandLine{}
	var err error
	l.parser, err = newParser(&l.values, stdout, stderr)
	return l, err
}

// runCommand runs the command that args name. It returns the exit code.
func (l *commandLine) runCommand(ctx context.Context, args []string, t *terminal.Terminal) int {
	defer t.EndOutput() // behind the last word
	if len(args) == 0 {
		args = []string{"--help"}
	}
	selected, err := l.parser.Parse(args)
	switch {
	case errors.Is(err, errHelpShown):
		return terminal.ExitOK
	case err != nil:
		t.ReportError(err)
		_, _ = fmt.Fprintf(t.Stderr, "Help: %s --help\n", commandPath(err))
		return terminal.ExitUsage
	}
	if slices.Contains(hubCommands, selected.Command()) {
		if err := refuseStart("", checkEnvironment(selected.Model, os.Environ())); err != nil {
			return t.ReportError(err)
		}
	}
	selected.BindTo(ctx, (*context.Context)(nil))
	if err := selected.Run(t); err != nil {
		return t.ReportError(err)
	}
	return terminal.ExitOK
}

func newParser(c *commandSet, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("connhub"),
		kong.Description(description+build.DevHint(startWithDev)),
		kong.NoDefaultHelp(),
		kong.Writers(stdout, stderr),
		kong.Configuration(loadConfig),
		kong.ConfigureHelp(kong.HelpOptions{
			Compact: true, NoExpandSubcommands: true,
			WrapUpperBound: 110,
		}),
		kong.ValueFormatter(formatHelp),
		kong.PostBuild(completeFlags),
	)
}

// commandPath returns the command that a parse error belongs to, for the hint below the error.
func commandPath(err error) string {
	if failed, ok := errors.AsType[*kong.ParseError](err); ok && failed.Context != nil {
		if node := failed.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "connhub"
}

// formatHelp leaves the variable of a flag out: it is CONNHUB_ and the flag's name.
func formatHelp(v *kong.Value) string { return v.Help }
