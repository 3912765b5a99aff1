// Package protofield reads and writes the fields of protobuf messages one by one, for code that
// decodes and encodes common messages itself, in fewer allocations than package proto. It knows the
// fields that such messages have: varints and chunks, with numbers below 16. The caller hands the
// rest to package proto.
package protofield

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Key is the number of a field and its type on the wire, as protobuf encodes both. The numbers are
// below 16, so a key is a single byte.
type Key = byte

// The types of fields.
const (
	Varint = Key(protowire.VarintType)
	Chunk  = Key(protowire.BytesType) // a text, bytes or a message
)

// The keys of google.protobuf.Duration.
const (
	SecondsKey = 1<<3 | Varint
	NanosKey   = 2<<3 | Varint
)

// KeyOf returns the key of a field. It panics if the package does not know fields of that kind.
func KeyOf(f protoreflect.FieldDescriptor) Key {
	if f.Number() < 16 {
		number := Key(f.Number()) << 3
		switch f.Kind() {
		case protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind,
			protoreflect.Uint64Kind, protoreflect.BoolKind, protoreflect.EnumKind:
			return number | Varint
		case protoreflect.StringKind, protoreflect.BytesKind, protoreflect.MessageKind:
			return number | Chunk
		default:
		}
	}
	panic(fmt.Sprint("no key of ", f.FullName()))
}

// Reader reads the fields of a message, in their order.
type Reader struct {
	// Rest is the rest of the message.
	Rest []byte
	// Failed says that Rest is no field that the package knows.
	Failed bool

	// Key is the key of the field.
	Key Key
	// Number is the value of a varint.
	Number uint64
	// Bytes is the value of a chunk, a part of the message.
	Bytes []byte
}

// Next reads the next field. It returns false after the last field. If it can't read on it sets
// Failed, and returns false.
func (r *Reader) Next() bool {
	if len(r.Rest) == 0 {
		return false
	}
	r.Key = r.Rest[0]
	n := -1
	switch r.Key & 7 {
	case Varint:
		r.Number, n = protowire.ConsumeVarint(r.Rest[1:])
	case Chunk:
		r.Bytes, n = protowire.ConsumeBytes(r.Rest[1:])
	}
	if n < 0 || r.Key < 1<<3 || r.Key >= 1<<7 {
		r.Failed = true
		return false
	}
	r.Rest = r.Rest[1+n:]
	return true
}

// StoreText stores a chunk as a text. It returns false if that is no valid UTF-8.
func (r *Reader) StoreText(into *string) bool {
	*into = string(r.Bytes)
	return utf8.Valid(r.Bytes)
}

// DecodeDuration decodes b into an empty Duration. It returns false if b has further fields.
func DecodeDuration(b []byte, into *durationpb.Duration) bool {
	r := Reader{Rest: b}
	for r.Next() {
		switch r.Key {
		case SecondsKey:
			into.Seconds = int64(r.Number) //nolint:gosec // as protobuf means it
		case NanosKey:
			into.Nanos = int32(r.Number) //nolint:gosec // as protobuf means it
		default:
			return false
		}
	}
	return !r.Failed
}

// DecodeAll decodes a list of messages, at most the given number, which are the only fields of b
// and have the key k. It returns false if b has more or different fields, or decode returns false.
func DecodeAll[T any](b []byte, k Key, most int, decode func([]byte) (T, bool)) ([]T, bool) {
	count, counted := 0, Reader{Rest: b}
	for counted.Next() {
		count++
	}
	if count > most {
		return nil, false
	}
	all, r := make([]T, 0, count), Reader{Rest: b}
	for r.Next() {
		if r.Key != k {
			return nil, false
		}
		one, ok := decode(r.Bytes)
		if !ok {
			return nil, false
		}
		all = append(all, one)
	}
	return all, !r.Failed
}

// The sizes are in bytes, with the key. A field with its default value takes none, but a message
// does.

// SizeNumber returns the size of a varint.
func SizeNumber(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

// SizeChunk returns the size of a text, or of bytes, of a length.
func SizeChunk(length int) int {
	if length == 0 {
		return 0
	}
	return SizeMessage(length)
}

// SizeMessage returns the size of a message that has so many bytes itself.
func SizeMessage(size int) int { return 1 + protowire.SizeBytes(size) }

// AppendNumber appends a varint unless it is 0.
func AppendNumber(b []byte, k Key, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(append(b, k), v)
}

// AppendChunk appends a text, or bytes, unless it is empty.
func AppendChunk[T string | []byte](b []byte, k Key, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return append(StartMessage(b, k, len(v)), v...)
}

// StartMessage appends the key and the size of a message, or of a chunk that may be empty, whose
// bytes follow.
func StartMessage(b []byte, k Key, size int) []byte {
	return protowire.AppendVarint(append(b, k), uint64(size)) //nolint:gosec // a size
}
