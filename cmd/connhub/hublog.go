package main

import (
	"log/slog"

	"github.com/connhub/connhub/cli/terminal"
)

// startLog starts the log of a hub. From here on a reader that stops or leaves can neither block
// nor end the process.
func startLog(t *terminal.Terminal, format string, level slog.Level) *hubLog {
	log := openLog(t.Stderr, format, level)
	t.Stdout, t.Stderr, t.AtEnd = log.out.outletTo(t.Stdout), log.out, log.Close
	if t.OwnProcess {
		ignoreBrokenPipes()
		log.gatherLibraries()
	}
	return log
}
