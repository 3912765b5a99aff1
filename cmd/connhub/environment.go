package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

// variablePrefix begins the name of each environment variable of connhub.
const variablePrefix = "CONNHUB_"

// testPrefixes begin the variables for the tests and figures of connhub. The binary ignores them.
var testPrefixes = []string{variablePrefix + "TEST_", variablePrefix + "BENCH_"}

// serviceLink matches the variables that Kubernetes sets in each pod for a Service with the name
// connhub or connhub-NAME, unless the pod has enableServiceLinks: false. No flag has such a name; a
// test holds that.
var serviceLink = regexp.MustCompile(
	`^CONNHUB(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|` +
		`PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`,
)

// checkEnvironment refuses variables of connhub that no flag has, as the config file's unknown keys
// are refused: a limit with a typing mistake must not become no limit. environ has the form of
// os.Environ. Variables for flags of all commands are known, because a shell may have them for
// those commands.
func checkEnvironment(app *kong.Application, environ []string) error {
	known := map[string]bool{}
	_ = kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			for _, name := range flag.Envs {
				known[name] = true
			}
		}
		return next(nil)
	})
	var problems []error
	slices.Sort(environ)
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		forTests := slices.ContainsFunc(testPrefixes, func(prefix string) bool {
			return strings.HasPrefix(name, prefix)
		})
		if strings.HasPrefix(name, variablePrefix) && !known[name] && !forTests &&
			!serviceLink.MatchString(name) {
			problems = append(problems, fmt.Errorf("unknown environment variable %s%s", name,
				suggestName(name, known)))
		}
	}
	return errors.Join(problems...)
}

// lettersPerMistake is the number of letters that a name must have for each letter in which it may
// differ from the suggested name.
const lettersPerMistake = 4

// suggestName returns words that name the known name with the fewest mistakes, or "".
func suggestName(name string, known map[string]bool) string {
	most := len(strings.TrimPrefix(name, variablePrefix)) / lettersPerMistake
	best, distance := "", most+1
	for candidate := range known {
		d := countMistakes(name, candidate)
		if d < distance || d == distance && candidate < best {
			best, distance = candidate, d
		}
	}
	if distance > most {
		return ""
	}
	return ": did you mean " + best + "?"
}

// countMistakes counts the letters to insert, delete or replace to turn a into b (Levenshtein).
func countMistakes(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
