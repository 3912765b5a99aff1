package cli

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/connhub/connhub/cli/dial"
)

// lineBuffer is the size of a read from the input.
const lineBuffer = 64 << 10

// line is a line of the input.
type line struct {
	number  int64 // from 1
	text    []byte
	tooLong bool // it had more than MaxPayload bytes, and text is not valid
}

// lineReader reads lines from an input that may be slow, fast or endless.
type lineReader struct {
	r      *bufio.Reader
	number int64 // of the last line
	bytes  int64 // taken so far
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, lineBuffer)}
}

// nextLines waits for a line. It returns the line with the lines after it that have arrived
// already, so slow input is sent line by line, and fast input in bulk. The last line needs no end.
// It returns io.EOF after the last line.
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
			return lines, nil // the next read returns it again
		}
		lines = append(lines, one)
	}
}

// readLine reads a line without its end, "\n" or "\r\n". It drops the text of a line above the
// limit.
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
		if len(text) > dial.MaxPayload+2 {
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
		return line{number: l.number, text: text, tooLong: long || len(text) > dial.MaxPayload}, nil
	}
}
