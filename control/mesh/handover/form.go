package handover

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// MaxBytes is the most bytes of a body (move.proto).
const MaxBytes = 256 << 20

var (
	// ErrBroken: no hub of this version writes such bytes.
	ErrBroken = errors.New("broken state of a connection")
	// ErrUnfit: the state has a value that has no form on the wire, or more than MaxBytes.
	ErrUnfit = errors.New("state of a connection does not fit on the wire")
)

func brokenError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBroken, fmt.Sprintf(format, args...))
}

func unfitError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnfit, fmt.Sprintf(format, args...))
}

// marshalBody returns m as bytes.
func marshalBody(m proto.Message) ([]byte, error) {
	b, err := proto.Marshal(m)
	switch {
	case err != nil:
		return nil, unfitError("%v", err) // text that is not UTF-8
	case len(b) > MaxBytes:
		return nil, unfitError("%d bytes, want at most %d", len(b), MaxBytes)
	default:
		return b, nil
	}
}

// unmarshalBody decodes b into m.
func unmarshalBody(b []byte, m proto.Message) error {
	if len(b) > MaxBytes {
		return brokenError("%d bytes, want at most %d", len(b), MaxBytes)
	}
	if err := proto.Unmarshal(b, m); err != nil {
		return brokenError("%v", err)
	}
	return checkKnown(m)
}

// checkKnown returns an error if a message has a field of a later version. It does not look into
// the messages in m.
func checkKnown(m proto.Message) error {
	if r := m.ProtoReflect(); len(r.GetUnknown()) > 0 {
		return brokenError("%s has unknown fields", r.Descriptor().Name())
	}
	return nil
}

// pairs has the values of an enumeration of the protos with those of hub.
type pairs[W, H comparable] []struct {
	wire  W
	value H
}

func (p pairs[W, H]) encode(value H) (W, bool) {
	for _, pair := range p {
		if pair.value == value {
			return pair.wire, true
		}
	}
	var none W
	return none, false
}

func (p pairs[W, H]) decode(wire W) (H, bool) {
	for _, pair := range p {
		if pair.wire == wire {
			return pair.value, true
		}
	}
	var none H
	return none, false
}
