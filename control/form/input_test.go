package form

import (
	"math/rand/v2"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// inputs makes messages as bytes, by their descriptors: so a field that a proto gets later is in
// them. They are right as bytes, and may break rules of the protos. Odd inputs have all that bytes
// may have: unknown fields, wrong types, groups, needless bytes in numbers, text that is not UTF-8,
// an end too early.
type inputs struct {
	*rand.Rand

	odd bool
}

// newInputs returns the inputs of a seed. Every second seed has odd inputs.
func newInputs(seed uint64) inputs {
	return inputs{rand.New(rand.NewPCG(seed, 0)), seed%2 == 1} //nolint:gosec // repeatable
}

// isRarely is true once in n times.
func (in inputs) isRarely(n int) bool { return in.IntN(n) == 0 }

// isOddly is true once in n times if the inputs are odd.
func (in inputs) isOddly(n int) bool { return in.odd && in.isRarely(n) }

// nextInput returns a message.
func (in inputs) nextInput(d protoreflect.MessageDescriptor) []byte {
	b := in.appendFields(nil, d)
	if len(b) == 0 || !in.isOddly(3) {
		return b
	}
	switch in.IntN(3) {
	case 0:
		return b[:in.IntN(len(b))]
	case 1:
		b[in.IntN(len(b))] ^= 1 << in.IntN(8)
		return b
	default:
		return in.appendFields(b, d) // fields that come again
	}
}

// appendFields appends most fields of a message, and more.
func (in inputs) appendFields(b []byte, d protoreflect.MessageDescriptor) []byte {
	fields := d.Fields()
	for _, i := range in.Perm(fields.Len()) {
		field := fields.Get(i)
		often := 1
		switch {
		case field.ContainingOneof() != nil && !in.isOddly(8):
			if first := field.ContainingOneof().Fields().Len(); !in.isRarely(first) {
				often = 0
			}
		case in.isRarely(3):
			often = 0
		case field.IsList(), field.IsMap(), in.isOddly(8):
			often = in.IntN(4)
		}
		for range often {
			b = in.appendField(b, field)
		}
		if in.isOddly(16) {
			b = in.appendUnknown(b)
		}
	}
	return b
}

// appendField appends a field, as a rule of its type.
func (in inputs) appendField(b []byte, field protoreflect.FieldDescriptor) []byte {
	kind := field.Kind()
	if in.isOddly(32) {
		kind = [...]protoreflect.Kind{
			protoreflect.Int64Kind, protoreflect.BytesKind, protoreflect.DoubleKind,
			protoreflect.FloatKind, protoreflect.GroupKind,
		}[in.IntN(5)]
	}
	switch kind {
	case protoreflect.MessageKind:
		return in.appendBytes(b, field.Number(), in.appendFields(nil, field.Message()))
	case protoreflect.StringKind:
		return in.appendBytes(b, field.Number(), []byte(in.nextText()))
	case protoreflect.BytesKind:
		return in.appendBytes(b, field.Number(), []byte{0xff, 0, byte(in.IntN(256))})
	case protoreflect.EnumKind:
		most := 2
		if in.isRarely(8) {
			most = 7
		}
		return in.appendNumber(b, field.Number(), uint64(in.IntN(most)))
	case protoreflect.BoolKind:
		return in.appendNumber(b, field.Number(), uint64(in.IntN(2)))
	case protoreflect.DoubleKind:
		b = in.appendTag(b, field.Number(), protowire.Fixed64Type)
		return protowire.AppendFixed64(b, in.Uint64())
	case protoreflect.FloatKind:
		b = in.appendTag(b, field.Number(), protowire.Fixed32Type)
		return protowire.AppendFixed32(b, in.Uint32())
	case protoreflect.GroupKind:
		b = in.appendTag(b, field.Number(), protowire.StartGroupType)
		b = in.appendNumber(b, 1, in.nextNumber())
		return in.appendTag(b, field.Number(), protowire.EndGroupType)
	default:
		return in.appendNumber(b, field.Number(), in.nextNumber())
	}
}

// appendUnknown appends a field that its message does not have, or the end of a group, or a tag
// that no message has.
func (in inputs) appendUnknown(b []byte) []byte {
	number := protowire.Number(in.IntN(40))
	if in.isRarely(4) {
		number = protowire.Number(in.Uint32N(1 << 30))
	}
	return in.appendNumber(in.appendTag(b, number, protowire.Type(in.IntN(8))), 1, 1)
}

func (in inputs) appendTag(b []byte, number protowire.Number, t protowire.Type) []byte {
	return in.appendVarint(b, protowire.EncodeTag(number, t))
}

func (in inputs) appendNumber(b []byte, number protowire.Number, v uint64) []byte {
	if in.isOddly(32) {
		v = in.Uint64()
	}
	return in.appendVarint(in.appendTag(b, number, protowire.VarintType), v)
}

func (in inputs) appendBytes(b []byte, number protowire.Number, v []byte) []byte {
	size := uint64(len(v))
	if in.isOddly(128) {
		size = in.nextNumber()
	}
	return append(in.appendVarint(in.appendTag(b, number, protowire.BytesType), size), v...)
}

// appendVarint appends a number, oddly with more bytes than it needs, up to too many.
func (in inputs) appendVarint(b []byte, v uint64) []byte {
	b = protowire.AppendVarint(b, v)
	if in.isOddly(16) {
		for range 1 + in.IntN(1+in.IntN(11)) {
			b[len(b)-1] |= 0x80
			b = append(b, 0)
		}
	}
	return b
}

// nextNumber returns a number for durations and sequences.
func (in inputs) nextNumber() uint64 {
	bounds := [...]uint64{0, 1, 299, 300, 86_400, 999_999_999, MaxSequence, 1 << 31, 1 << 63}
	if !in.isRarely(8) {
		return uint64(1 + in.IntN(299))
	}
	return bounds[in.IntN(len(bounds))] + uint64(in.IntN(3)) - 1
}

// nextText returns a name or a text.
func (in inputs) nextText() string {
	switch n := in.IntN(64); {
	case n < 56:
		return [...]string{"ann", "games", "red", "a.b_c-1"}[n%4]
	case n < 60:
		return [...]string{"", "grüß dich", "{}", "Bad"}[n%4]
	case n == 60:
		return [...]string{"\x00", "a\u0085", "\x7f", "\u00a0"}[in.IntN(4)]
	case n == 61:
		return strings.Repeat("n", [...]int{127, 128, 129}[in.IntN(3)])
	case n == 62:
		return strings.Repeat("ü", [...]int{511, 512, 513}[in.IntN(3)])
	case in.odd:
		return "a\xff"
	default:
		return "a"
	}
}
