package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/connhub/connhub/hub"
)

// lineBuffer is how much of the input is read at once.
const lineBuffer = 64 << 10

// line is one line of the input.
type line struct {
	number  int64 // from 1
	text    []byte
	tooLong bool // it had more than hub.MaxPayload bytes; text is not it
}

// lineReader takes lines out of an input that may come slowly, fast, or never end.
type lineReader struct {
	r      *bufio.Reader
	number int64 // of the last line
	bytes  int64 // taken so far
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, lineBuffer)}
}

// nextLines waits for a line, and returns it with those after it that are there already: so that slow input is
// sent line by line, and fast input in bulk. The last line needs no end. io.EOF: there are no more.
func (l *lineReader) nextLines() ([]line, error) {
	first, err := l.readLine()
	if err != nil {
		return nil, err
	}
	lines := []line{first}
	for {
		there, err := l.r.Peek(l.r.Buffered())
		if err != nil || bytes.IndexByte(there, '\n') < 0 {
			return lines, nil
		}
		one, err := l.readLine()
		if err != nil {
			return lines, nil // comes again
		}
		lines = append(lines, one)
	}
}

// readLine reads one line without its end, "\n" or "\r\n". What is over the limit is read, and forgotten.
func (l *lineReader) readLine() (line, error) {
	var text []byte
	long := false
	for {
		part, err := l.r.ReadSlice('\n')
		l.bytes += int64(len(part))
		if !long {
			text = append(text, part...)
		}
		// Two bytes for its end.
		if len(text) > hub.MaxPayload+2 {
			text, long = nil, true
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && (len(text) > 0 || long):
		case err != nil:
			return line{}, err
		}
		l.number++
		text = bytes.TrimSuffix(text, []byte("\n"))
		text = bytes.TrimSuffix(text, []byte("\r"))
		return line{number: l.number, text: text, tooLong: long || len(text) > hub.MaxPayload}, nil
	}
}
