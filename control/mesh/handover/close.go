package handover

import (
	"math"

	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
	"github.com/connhub/connhub/hub/cause"
)

// MarshalClose returns how a connection was closed as bytes; no bytes for nil. Error: ErrUnfit.
func MarshalClose(how *cause.CloseStatus) ([]byte, error) {
	if how == nil {
		return nil, nil
	}
	if how.Cause == 0 || how.Cause >= cause.End {
		return nil, unfitError("close for %s", how.Cause)
	}
	return marshalBody(&peerv1.HandoverClose{
		Cause: how.Cause.String(), Code: uint32(how.Code), Reason: how.Reason,
	})
}

// UnmarshalClose is the inverse of MarshalClose. Error: ErrBroken.
func UnmarshalClose(b []byte) (*cause.CloseStatus, error) {
	if len(b) == 0 {
		return nil, nil //nolint:nilnil // the connection was not closed
	}
	m := &peerv1.HandoverClose{}
	if err := unmarshalBody(b, m); err != nil {
		return nil, err
	}
	// proto.Unmarshal has checked that the reason is UTF-8, as a close frame demands.
	if m.GetCode() > math.MaxUint16 || len(m.GetReason()) > cause.MaxReason {
		return nil, brokenError("close with code %d", m.GetCode())
	}
	for _, c := range cause.All() {
		if c.String() == m.GetCause() {
			code := uint16(m.GetCode()) //nolint:gosec // checked above
			return &cause.CloseStatus{Cause: c, Code: code, Reason: m.GetReason()}, nil
		}
	}
	return nil, brokenError("cause %q", m.GetCause())
}
