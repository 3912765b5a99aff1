package wire

import (
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto" // registers the codec, too
	"google.golang.org/grpc/mem"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

// MaxBatch is the most calls and results of a message (forward.proto).
const MaxBatch = 256

// Codec is gRPC's codec for protobuf. It encodes and decodes messages of lanes itself, if they are
// of the common kind. It is safe for concurrent use.
//
// A decoded DataRequest keeps the bytes of the whole message for as long as one of its requests is
// in use.
type Codec struct{ encoding.CodecV2 }

var _ encoding.CodecV2 = Codec{}

// NewCodec returns a Codec.
func NewCodec() Codec { return Codec{encoding.GetCodecV2(grpcproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c Codec) Marshal(v any) (mem.BufferSlice, error) {
	size, common := sizeCommon(v)
	if !common {
		return c.CodecV2.Marshal(v)
	}
	if mem.IsBelowBufferPoolingThreshold(size) {
		return mem.BufferSlice{mem.SliceBuffer(appendCommon(make([]byte, 0, size), v))}, nil
	}
	pool := mem.DefaultBufferPool()
	b := pool.Get(size)
	*b = appendCommon((*b)[:0], v)
	return mem.BufferSlice{mem.NewBuffer(b, pool)}, nil
}

// sizeCommon returns the size of a message in bytes. It returns false if the message is not of the
// common kind.
func sizeCommon(v any) (int, bool) {
	switch m := v.(type) {
	case *peerv1.DataRequest:
		if isCommonRequest(m) {
			return sizeRequest(m), true
		}
	case *peerv1.DataResponse:
		if isCommonResponse(m) {
			return sizeResponse(m), true
		}
	}
	return 0, false
}

// appendCommon appends a message of the common kind.
func appendCommon(b []byte, v any) []byte {
	switch m := v.(type) {
	case *peerv1.DataRequest:
		return appendRequest(b, m)
	case *peerv1.DataResponse:
		return appendResponse(b, m)
	default:
		return b
	}
}

// Unmarshal implements encoding.CodecV2.
func (c Codec) Unmarshal(data mem.BufferSlice, v any) error {
	if decodeCommon(data, v) {
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

// decodeCommon decodes a message of the common kind into v, whose fields are unset. If it returns
// false, v is as before.
func decodeCommon(data mem.BufferSlice, v any) bool {
	switch m := v.(type) {
	case *peerv1.DataRequest:
		return decodeRequest(data.Materialize(), m)
	case *peerv1.DataResponse:
		b := data.MaterializeToBuffer(mem.DefaultBufferPool())
		defer b.Free()
		return decodeResponse(b.ReadOnlyData(), m)
	default:
		return false
	}
}
