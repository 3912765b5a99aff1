package main

import (
	"io"
	"log/slog"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/node/logging"
)

// startLog starts the log of a hub. From here on a reader that stops or leaves can neither block
// nor end the process.
func startLog(t *terminal.Terminal, format string, level slog.Level) *logging.Log {
	log := openLog(t.Stderr, format, level)
	t.Stdout, t.Stderr, t.AtEnd = log.OutletTo(t.Stdout), log.Writer(), log.Close
	if t.OwnProcess {
		ignoreBrokenPipes()
		log.GatherLibraries()
	}
	return log
}

// openLog starts a log for people on a terminal, and JSON lines elsewhere, unless the format is
// given.
func openLog(w io.Writer, format string, level slog.Level) *logging.Log {
	text := format == "text" || format == "auto" && terminal.IsTerminal(w)
	return logging.Open(w, logging.Format{
		Text: text, Colour: terminal.WantsColour(w), Level: level,
	})
}
