package load

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// events describes the messages and control frames that a decoder found.
type events []string

func (e *events) handleMessage(head []byte) { *e = append(*e, fmt.Sprintf("message %q", head)) }

func (e *events) handleControl(opcode byte, payload []byte) error {
	*e = append(*e, fmt.Sprintf("control %#x %q", opcode, payload))
	return nil
}

// decodePieces feeds b to a decoder in pieces of that many bytes.
func decodePieces(b []byte, piece int) (events, error) {
	var found events
	var d decoder
	for len(b) > 0 {
		n := min(piece, len(b))
		if err := d.feedBytes(b[:n], &found); err != nil {
			return found, err
		}
		b = b[n:]
	}
	return found, nil
}

// longFrame returns a frame whose payload is n times "x".
func longFrame(first byte, header string, n int) string {
	return string([]byte{first}) + header + strings.Repeat("x", n)
}

// The examples of RFC 6455 §5.7 as a server sends them, and each border between two forms of the
// length.
func TestFramesAreReadInWhateverPiecesTheyCome(t *testing.T) {
	longMessage := fmt.Sprintf("message %q", strings.Repeat("x", StampSize))
	header64 := "\x7f\x00\x00\x00\x00\x00\x01\x00\x00"
	for _, tt := range []struct {
		bytes string
		want  events
	}{
		{"\x81\x05Hello", events{`message "Hello"`}},
		{"\x01\x03Hel\x80\x02lo", events{`message "Hello"`}},
		{"\x01\x03Hel\x89\x02hi\x80\x02lo", events{`control 0x9 "hi"`, `message "Hello"`}},
		{"\x81\x00\x82\x01\xff", events{`message ""`, `message "\xff"`}},
		{"\x88\x02\x03\xe8", events{`control 0x8 "\x03\xe8"`}},
		{longFrame(0x81, "\x7d", 125), events{longMessage}},
		{longFrame(0x82, "\x7e\x00\x7e", 126), events{longMessage}},
		{longFrame(0x82, "\x7e\xff\xff", 65535) + "\x81\x01a", events{longMessage, `message "a"`}},
		{longFrame(0x82, header64, 65536) + "\x81\x01a", events{longMessage, `message "a"`}},
	} {
		for _, piece := range []int{1, 2, 3, 7, 512, 1 << 20} {
			got, err := decodePieces([]byte(tt.bytes), piece)
			if diff := cmp.Diff(tt.want, got); diff != "" || err != nil {
				t.Errorf("%.20q in pieces of %d: %v\n%s", tt.bytes, piece, err, diff)
			}
		}
	}
}

func TestFramesThatBreakTheProtocolEndTheConnection(t *testing.T) {
	for name, b := range map[string]string{
		"a reserved bit":           "\xc1\x00",
		"a mask":                   "\x81\x80\x00\x00\x00\x00",
		"an unknown opcode":        "\x83\x00",
		"an unknown control frame": "\x8b\x00",
		"a fragmented ping":        "\x09\x00",
		"a long ping":              "\x89\x7e\x00\x7e",
		"a tail without a head":    "\x80\x00",
		"a second head":            "\x01\x00\x81\x00",
	} {
		if _, err := decodePieces([]byte(b), 1); !errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzPiecesDoNotMatter(f *testing.F) {
	f.Add([]byte("\x01\x03Hel\x89\x02hi\x80\x02lo"), 1)
	f.Add([]byte("\x82\x7e\x00\x7e"+strings.Repeat("x", 126)+"\x88\x02\x03\xe8"), 3)
	f.Add([]byte("\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"), 2)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		whole, wholeErr := decodePieces(b, max(len(b), 1))
		pieces, piecesErr := decodePieces(bytes.Clone(b), max(piece, 1))
		if diff := cmp.Diff(whole, pieces); diff != "" {
			t.Errorf("in pieces of %d (-whole +pieces):\n%s", piece, diff)
		}
		if fmt.Sprint(wholeErr) != fmt.Sprint(piecesErr) {
			t.Errorf("in pieces of %d: %v, want %v", piece, piecesErr, wholeErr)
		}
	})
}
