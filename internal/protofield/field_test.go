package protofield

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"pgregory.net/rapid"
)

// The fields that are appended are read again, and take as many bytes as their sizes tell.
func TestFieldsAreReadAsTheyWereAppended(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type field struct {
			key    Key
			number uint64
			bytes  string
		}
		var b []byte
		var want []field
		size := 0
		for range rapid.IntRange(0, 5).Draw(t, "fields") {
			f := field{key: Key(rapid.IntRange(1, 15).Draw(t, "number")) << 3}
			if rapid.Bool().Draw(t, "is a chunk") {
				f.key |= Chunk
				f.bytes = rapid.String().Draw(t, "bytes")
				b, size = AppendChunk(b, f.key, f.bytes), size+SizeChunk(len(f.bytes))
			} else {
				f.key |= Varint
				f.number = rapid.Uint64().Draw(t, "value")
				b, size = AppendNumber(b, f.key, f.number), size+SizeNumber(f.number)
			}
			if f.bytes != "" || f.number != 0 {
				want = append(want, f)
			}
		}
		if len(b) != size {
			t.Errorf("%d bytes, want %d", len(b), size)
		}
		r := Reader{Rest: b}
		for _, f := range want {
			if !r.Next() || r.Key != f.key {
				t.Fatalf("key %d, want %d", r.Key, f.key)
			}
			if r.Key&7 == Varint && r.Number != f.number ||
				r.Key&7 == Chunk && string(r.Bytes) != f.bytes {
				t.Errorf("%d and %q, want %v", r.Number, r.Bytes, f)
			}
		}
		if r.Next() || r.Failed {
			t.Errorf("more than was appended: %v", r)
		}
	})
}

func TestFieldsThatAReaderDoesNotKnowFail(t *testing.T) {
	for name, b := range map[string][]byte{
		"cut off":           {1<<3 | Chunk, 2, 'a'},
		"without a value":   {1<<3 | Varint},
		"a fixed type":      {1<<3 | 5, 0, 0, 0, 0},
		"number 16":         {0x80, 1, 1},
		"number 0":          {Varint, 1},
		"an endless varint": append([]byte{1<<3 | Varint}, bytes.Repeat([]byte{0xff}, 11)...),
	} {
		r := Reader{Rest: b}
		if r.Next() || !r.Failed {
			t.Errorf("%s: read as %d", name, r.Key)
		}
	}
}

func TestAListIsBounded(t *testing.T) {
	const k, most = 1<<3 | Chunk, 2
	decode := func(b []byte) (int, bool) { return len(b), len(b) == 0 }
	for _, tc := range []struct {
		name string
		b    []byte
		ok   bool
	}{
		{"none", nil, true},
		{"two", []byte{k, 0, k, 0}, true},
		{"three", []byte{k, 0, k, 0, k, 0}, false},
		{"a different field", []byte{k, 0, 2<<3 | Varint, 1}, false},
		{"cut off", []byte{k, 0, k}, false},
		{"not decoded", []byte{k, 1, 'a'}, false},
	} {
		if _, ok := DecodeAll(tc.b, k, most, decode); ok != tc.ok {
			t.Errorf("%s: %v", tc.name, ok)
		}
	}
}

func TestDurationsAreDecoded(t *testing.T) {
	for _, want := range []*durationpb.Duration{
		{}, {Seconds: 1, Nanos: 500}, {Seconds: -1, Nanos: -5},
	} {
		b, err := proto.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if have := (&durationpb.Duration{}); !DecodeDuration(b, have) || !proto.Equal(want, have) {
			t.Errorf("%v, want %v", have, want)
		}
	}
	if DecodeDuration([]byte{3<<3 | Varint, 1}, &durationpb.Duration{}) {
		t.Error("a field of a later version is lost")
	}
}

func TestKeysOfOtherKindsPanic(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a double has a key")
		}
	}()
	KeyOf((&wrapperspb.DoubleValue{}).ProtoReflect().Descriptor().Fields().ByName("value"))
}
