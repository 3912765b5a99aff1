// Package terminaltest helps tests of commands that print. Only tests import it.
package terminaltest

import (
	"bytes"
	"time"

	"github.com/connhub/connhub/cli/terminal"
)

// Noon is the present time of the terminals of Render.
var Noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// Render returns the text that print writes, with or without colours, at noon.
func Render(colour bool, print func(*terminal.Terminal)) string {
	var out bytes.Buffer
	t := terminal.New(nil, &out, &out)
	t.Out.On, t.Err.On = colour, colour
	t.Now = func() time.Time { return Noon }
	print(t)
	return out.String()
}
