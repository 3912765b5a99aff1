package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Problem is a problem of a field of a Config. It is an error for Go callers. A program whose
// operators know the field by another name makes its own sentence of Text.
type Problem struct {
	// Field is the path of the field, in Go's names: MaxMessage, Outbox.Bytes, Endpoints[1].
	Field string
	// Text is the rest of the sentence that begins with the field: "is 0, must be above 0". Text
	// does not name a field that has another name for operators. A value in it is quoted, or has no
	// letters but those of a number or a duration.
	Text string
}

// Error returns the sentence, with the Go name of the field.
func (p Problem) Error() string { return p.Field + " " + p.Text }

// Problems are all problems of a Config. A valid Config has none. It is no error itself, because a
// nil slice in an error would be an error: see Err.
type Problems []Problem

// Add adds a problem of a field. Format and args make its Text.
func (p *Problems) Add(field, format string, args ...any) {
	*p = append(*p, Problem{field, fmt.Sprintf(format, args...)})
}

// Require adds a problem of a field unless ok. Format and args make its Text.
func (p *Problems) Require(ok bool, field, format string, args ...any) {
	if !ok {
		p.Add(field, format, args...)
	}
}

// RequirePositive adds a problem of a field unless its value is above 0.
func (p *Problems) RequirePositive(field string, value int) {
	p.Require(value > 0, field, "is %d, must be above 0", value)
}

// Err returns the problems as a joined error, or nil if there are none.
func (p Problems) Err() error {
	errs := make([]error, len(p))
	for i, problem := range p {
		errs[i] = problem
	}
	return errors.Join(errs...)
}

// QuoteURL quotes a URL or an address for the Text of a problem, valid or not. It masks a user and
// a password.
func QuoteURL(s string) string {
	if at := strings.LastIndex(s, "@"); at >= 0 {
		scheme, _, ok := strings.Cut(s[:at], "://")
		if !ok {
			return strconv.Quote("xxxxx" + s[at:])
		}
		s = scheme + "://xxxxx" + s[at:]
	}
	return strconv.Quote(s)
}
