package cli

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// allLines reads an input to its end.
func allLines(r io.Reader) ([]line, error) {
	reader := newLineReader(r)
	var all []line
	for {
		some, err := reader.nextLines()
		all = append(all, some...)
		if err != nil {
			return all, err
		}
	}
}

func TestLinesAreThoseOfTheInputHoweverItComes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOf(rapid.SampledFrom([]string{
			"\n", "\r\n", "\r", "a", "bc",
			strings.Repeat("d", lineBuffer), strings.Repeat("e", 1<<20), "é",
		})).Draw(t, "parts")
		input := strings.Join(parts, "")
		var want []line
		texts := strings.Split(input, "\n")
		if texts[len(texts)-1] == "" {
			texts = texts[:len(texts)-1]
		}
		for i, text := range texts {
			text = strings.TrimSuffix(text, "\r")
			one := line{number: int64(i + 1), text: []byte(text), tooLong: len(text) > 1<<20}
			if one.tooLong {
				one.text = nil
			}
			want = append(want, one)
		}
		var r io.Reader = strings.NewReader(input)
		switch rapid.IntRange(0, 2).Draw(t, "reader") {
		case 1:
			r = iotest.HalfReader(r)
		case 2:
			r = iotest.DataErrReader(r)
		}
		have, err := allLines(r)
		for i := range have {
			if have[i].tooLong {
				have[i].text = nil
			}
		}
		sameText := cmp.Comparer(func(a, b []byte) bool { return string(a) == string(b) })
		if diff := cmp.Diff(
			want, have, cmp.AllowUnexported(line{}), sameText,
		); diff != "" || !errors.Is(err, io.EOF) {
			t.Fatalf("%v\n%.2000s", err, diff)
		}
	})
}

func TestABrokenInputGivesItsLinesThenItsError(t *testing.T) {
	broken := errors.New("broken")
	have, err := allLines(io.MultiReader(strings.NewReader("a\nb\nhalf"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || len(have) != 2 {
		t.Errorf("%d lines, %v", len(have), err)
	}
}
