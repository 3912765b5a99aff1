package frame_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/edge/frame"
)

// The cases are the server's examples in RFC 6455 §5.7, and each border between two forms of the
// length.
func TestAppendHeaderMatchesTheExamplesOfTheRFC(t *testing.T) {
	for _, tc := range []struct {
		name   string
		opcode frame.Opcode
		fin    bool
		length int
		want   []byte
	}{
		{"unmasked text Hello", frame.Text, true, 5, []byte{0x81, 0x05}},
		{"first fragment Hel", frame.Text, false, 3, []byte{0x01, 0x03}},
		{"last fragment lo", frame.Continuation, true, 2, []byte{0x80, 0x02}},
		{"ping", frame.Ping, true, 5, []byte{0x89, 0x05}},
		{"256 bytes binary", frame.Binary, true, 256, []byte{0x82, 0x7E, 0x01, 0x00}},
		{"64 KiB binary", frame.Binary, true, 65536, []byte{0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0}},
		{"empty", frame.Text, true, 0, []byte{0x81, 0x00}},
		{"longest in one byte", frame.Text, true, 125, []byte{0x81, 0x7D}},
		{"shortest in two bytes", frame.Text, true, 126, []byte{0x81, 0x7E, 0x00, 0x7E}},
		{"longest in two bytes", frame.Text, true, 65535, []byte{0x81, 0x7E, 0xFF, 0xFF}},
		{"pong", frame.Pong, true, 0, []byte{0x8A, 0x00}},
		{"close", frame.Close, true, 2, []byte{0x88, 0x02}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := frame.AppendHeader([]byte("kept"), tc.opcode, tc.fin, tc.length)
			if diff := cmp.Diff(append([]byte("kept"), tc.want...), got); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAppendPutsThePayloadBehindTheHeader(t *testing.T) {
	want := []byte{0x81, 0x05, 'H', 'e', 'l', 'l', 'o'}
	if got := frame.Append(nil, frame.Text, []byte("Hello")); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestOnlyCloseAndPingAndPongAreControlFrames(t *testing.T) {
	for o, want := range map[frame.Opcode]bool{
		frame.Continuation: false, frame.Text: false, frame.Binary: false,
		frame.Close: true, frame.Ping: true, frame.Pong: true,
	} {
		if o.Control() != want {
			t.Errorf("%#x: control is %v", byte(o), o.Control())
		}
		if got := frame.OpcodeOf(frame.AppendHeader(nil, o, true, 0)[0]); got != o {
			t.Errorf("opcode of a frame with %#x is %#x", byte(o), byte(got))
		}
	}
}

func TestCloseFrameCarriesCodeAndReason(t *testing.T) {
	for _, tc := range []struct {
		name   string
		code   uint16
		reason string
		want   []byte
	}{
		{"code and reason", 1001, "bye", []byte{0x88, 5, 0x03, 0xE9, 'b', 'y', 'e'}},
		{"code alone", 3000, "", []byte{0x88, 2, 0x0B, 0xB8}},
		{"neither", 0, "never shown", []byte{0x88, 0}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := frame.AppendClose(nil, tc.code, tc.reason); !bytes.Equal(got, tc.want) {
				t.Errorf("got % x, want % x", got, tc.want)
			}
		})
	}
}

func TestLongReasonIsCutBetweenCharacters(t *testing.T) {
	for pad := range 4 { // the cut falls on each byte of a four-byte character
		reason := strings.Repeat("x", pad) + strings.Repeat("🙂", 40)
		got := frame.AppendClose(nil, 1000, reason)
		if len(got) > 2+frame.MaxControl {
			t.Errorf("pad %d: %d bytes", pad, len(got))
		}
		_, short, ok := frame.ParseClose(got)
		isCut := utf8.ValidString(short) && strings.HasPrefix(reason, short)
		if !ok || !isCut || len(short) < frame.MaxReason-3 {
			t.Errorf("pad %d: reason %q, ok %v", pad, short, ok)
		}
	}
}

func TestParseCloseRefusesWhatIsNotOneCloseFrame(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty": {}, "short": {0x88}, "text": {0x81, 0}, "half a code": {0x88, 1, 3},
		"cut": {0x88, 2, 3}, "more behind": {0x88, 2, 3, 0xE8, 0},
		"masked": {0x88, 0x80, 1, 2, 3, 4}, "not final": {0x08, 0},
	} {
		if code, reason, ok := frame.ParseClose(b); ok {
			t.Errorf("%s: parsed as %d %q", name, code, reason)
		}
	}
}

func FuzzHeaderTellsTheLengthThatWasPutIn(f *testing.F) {
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		f.Add(byte(frame.Text), true, n)
	}
	f.Fuzz(func(t *testing.T, opcode byte, fin bool, length int) {
		if length < 0 {
			return
		}
		b := frame.AppendHeader(nil, frame.Opcode(opcode&0xF), fin, length)
		if len(b) > frame.MaxHeader {
			t.Fatalf("%d bytes of header", len(b))
		}
		if b[0]&0x70 != 0 || b[1]&0x80 != 0 {
			t.Fatalf("reserved or mask bits are set: % x", b)
		}
		if got := b[0]&0x80 != 0; got != fin {
			t.Fatalf("fin is %v, want %v", got, fin)
		}
		got, size := uint64(b[1]), 2
		switch b[1] {
		case 126:
			got, size = uint64(binary.BigEndian.Uint16(b[2:])), 4
		case 127:
			got, size = binary.BigEndian.Uint64(b[2:]), 10
		}
		if got != uint64(length) || len(b) != size {
			t.Fatalf("length %d in %d bytes, want %d", got, len(b), length)
		}
		// §5.2: the shortest form must be used.
		if size == 4 && length < 126 || size == 10 && length <= 0xFFFF {
			t.Fatalf("%d bytes of header for length %d", size, length)
		}
	})
}

func FuzzParseCloseReadsBackAppendClose(f *testing.F) {
	f.Add(uint16(1000), "bye")
	f.Add(uint16(0), "")
	f.Add(uint16(4999), strings.Repeat("é", 100))
	f.Fuzz(func(t *testing.T, code uint16, reason string) {
		b := frame.AppendClose(nil, code, reason)
		if len(b) > 2+frame.MaxControl {
			t.Fatalf("%d bytes", len(b))
		}
		gotCode, gotReason, ok := frame.ParseClose(b)
		if !ok || gotCode != code {
			t.Fatalf("code %d, ok %v; want %d", gotCode, ok, code)
		}
		isPrefix := code == 0 || strings.HasPrefix(reason, gotReason)
		if !isPrefix || utf8.ValidString(reason) && !utf8.ValidString(gotReason) {
			t.Fatalf("reason %q from %q", gotReason, reason)
		}
	})
}

func TestParseHeaderSeesEachFormOfTheHeader(t *testing.T) {
	for _, tc := range []struct {
		name string
		b    string
		want frame.Header
		ok   bool
	}{
		{"nothing", "", frame.Header{}, false},
		{"one byte", "\x81", frame.Header{}, false},
		{"half a mask", "\x81\x85abc", frame.Header{}, false},
		{"half a length of two bytes", "\x82\xfe\x01", frame.Header{}, false},
		{
			"half a length of eight bytes", "\x82\xff\x00\x00\x00\x00\x00\x00\x01",
			frame.Header{},
			false,
		},
		{
			"masked text", "\x81\x85abcd",
			frame.Header{Opcode: frame.Text, Final: true, Start: 6, Size: 11},
			true,
		},
		{
			"compressed", "\xc1\x85abcd",
			frame.Header{Opcode: frame.Text, Final: true, Compressed: true, Start: 6, Size: 11},
			true,
		},
		{"not masked", "\x01\x05", frame.Header{Opcode: frame.Text, Start: 2, Size: 7}, true},
		{
			"two bytes of length", "\x82\xfe\x01\x00abcd",
			frame.Header{Opcode: frame.Binary, Final: true, Start: 8, Size: 264},
			true,
		},
		{
			"eight bytes of length", "\x82\xff\x00\x00\x00\x00\x00\x01\x00\x00abcd",
			frame.Header{Opcode: frame.Binary, Final: true, Start: 14, Size: 65550},
			true,
		},
		{
			"endless", "\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffabcd",
			frame.Header{Opcode: frame.Binary, Final: true, Start: 14, Size: math.MaxUint64},
			true,
		},
	} {
		got, ok := frame.ParseHeader([]byte(tc.b))
		if got.Opcode != tc.want.Opcode || got.Final != tc.want.Final ||
			got.Compressed != tc.want.Compressed ||
			got.Start != tc.want.Start || got.Size != tc.want.Size || ok != tc.ok {
			t.Errorf("%s: got %+v, %t; want %+v, %t", tc.name, got, ok, tc.want, tc.ok)
		}
	}
}

func FuzzParseHeaderNeverSeesMoreThanThereIs(f *testing.F) {
	f.Add([]byte("\x81\x85abcdHello"))
	f.Add([]byte("\x82\xfe\x01\x00abcd"))
	f.Add([]byte("\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffabcd"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := frame.ParseHeader(b)
		if !ok {
			return
		}
		payload := c.AppendPayload(nil, b)
		if uint64(len(payload)) >= c.Size || len(payload) > len(b)-2 {
			t.Fatalf("%d bytes of payload in %d, frame of %d", len(payload), len(b), c.Size)
		}
		if rest, ok := frame.ParseHeader(append(bytes.Clone(b), 0)); !ok || rest.Size != c.Size {
			t.Fatalf("with one byte more: %+v, %t", rest, ok)
		}
	})
}
