package framing_test

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub/edge/framing"
)

// appendStream appends text to a payload: as a stream with a final block, or flushed.
func appendStream(payload []byte, text string, final bool) []byte {
	b := bytes.NewBuffer(payload)
	w, _ := flate.NewWriter(b, flate.BestSpeed)
	_, _ = io.WriteString(w, text)
	if final {
		_ = w.Close()
	} else {
		_ = w.Flush()
	}
	return b.Bytes()
}

// A message is the text of all its streams, and as a whole no longer than it may be.
func TestAMessageIsAllOfItsStreams(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.StringN(0, 200, 200), 1, 4).Draw(t, "texts")
		var payload []byte
		for _, text := range texts[1:] {
			payload = appendStream(payload, text, rapid.Bool().Draw(t, "final"))
		}
		payload = appendStream(payload, texts[0], false)
		payload = bytes.TrimSuffix(payload, []byte("\x00\x00\xff\xff")) // RFC 7692 §7.2.1
		want := strings.Join(texts[1:], "") + texts[0]

		most := rapid.Int64Range(0, 1000).Draw(t, "most")
		in := framing.Inflate(iotest.OneByteReader(bytes.NewReader(payload)), most)
		defer in.Recycle()
		got, err := io.ReadAll(in)
		if int64(len(want)) > most {
			if !errors.Is(err, framing.ErrInflatedTooBig) {
				t.Fatalf("%d bytes of %d: %v", len(want), most, err)
			}
			return
		}
		if err != nil || string(got) != want {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
	})
}

func TestAnInflaterReturnsTheErrorOfItsPayload(t *testing.T) {
	payload := appendStream(nil, "hello", false)
	for n := range payload {
		in := framing.Inflate(io.MultiReader(bytes.NewReader(payload[:n]),
			iotest.ErrReader(io.ErrClosedPipe)), 100)
		if _, err := io.ReadAll(in); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		in.Recycle()
	}
}

// Any payload ends, with at most the bytes that a message may have.
func FuzzInflate(f *testing.F) {
	f.Add(appendStream(appendStream(nil, "a", true), "b", false))
	f.Add([]byte("\xf3\x48\xcd\xc9\xc9\x07\x00\x00")) // RFC 7692 §7.2.3.4
	f.Add([]byte(strings.Repeat("\x03\x00", 100)))
	f.Fuzz(func(t *testing.T, payload []byte) {
		const most = 10_000
		in := framing.Inflate(bytes.NewReader(payload), most)
		defer in.Recycle()
		got, err := io.ReadAll(in)
		if _, corrupt := errors.AsType[flate.CorruptInputError](err); err != nil && !corrupt &&
			!errors.Is(err, framing.ErrInflatedTooBig) {
			t.Errorf("%v", err)
		}
		if err == nil && len(got) > most {
			t.Errorf("%d bytes", len(got))
		}
	})
}

// BenchmarkInflateFinalBlocks is the worst payload: each two bytes are a stream without a byte of
// text.
func BenchmarkInflateFinalBlocks(b *testing.B) {
	payload := []byte(strings.Repeat("\x03\x00", 1<<19))
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		in := framing.Inflate(bytes.NewReader(payload), 1)
		if _, err := io.ReadAll(in); err != nil {
			b.Fatal(err)
		}
		in.Recycle()
	}
}
