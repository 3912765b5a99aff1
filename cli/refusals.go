package cli

import (
	"fmt"
	"strings"

	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

var refusalWords = map[controlv1.RefusalReason]string{
	controlv1.RefusalReason_REFUSAL_REASON_GROUP_LIMIT: "limit of 128 groups reached",
	controlv1.RefusalReason_REFUSAL_REASON_GRANT_LIMIT: "limit of 1000 grants and revocations " +
		"reached",
	controlv1.RefusalReason_REFUSAL_REASON_CLOSED: "closed meanwhile",
}

// printRefusals prints a line for each named refusal, and the number of the rest. A hub names at
// most 100.
func printRefusals(t *terminal.Terminal, named []*controlv1.Refusal, all int32) {
	var b strings.Builder
	for _, r := range named {
		what := terminal.MakePrintable(r.GetConnection())
		if r.GetGroup() != "" {
			what += " not into " + terminal.MakePrintable(r.GetGroup())
		}
		words, ok := refusalWords[r.GetReason()]
		if !ok {
			words = "for a reason that this version does not know"
		}
		fmt.Fprintf(&b, "  %s %s\n", t.Out.YellowText(what+":"), words)
	}
	if more := int(all) - len(named); more > 0 {
		fmt.Fprintf(&b, "  and %d more\n", more)
	}
	_, _ = t.Stdout.Write([]byte(b.String()))
}
