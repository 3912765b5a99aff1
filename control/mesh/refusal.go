package mesh

import (
	"errors"
	"fmt"
	"strings"

	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/control/mesh/core"
	peerv1 "github.com/connhub/connhub/gen/connhub/peer/v1"
)

const (
	// errorDomain is the domain of every ErrorInfo of connhub.
	errorDomain = "connhub"
	// reasonPrefix is left out of an ErrorInfo.
	reasonPrefix = "REFUSAL_REASON_"
)

// refusedError is the error of a stream with a hello that was refused.
type refusedError struct{ reason peerv1.RefusalReason }

func (e refusedError) Error() string { return "refused: " + nameOf(e.reason) }

func nameOf(r peerv1.RefusalReason) string { return strings.TrimPrefix(r.String(), reasonPrefix) }

// toStatus returns the status for the peer when its stream ends because of cause.
func toStatus(cause error) error {
	refused, ok := errors.AsType[refusedError](cause)
	switch {
	case ok && refused.reason == peerv1.RefusalReason_REFUSAL_REASON_PROTOCOL_VIOLATION:
		return newStatus(codes.InvalidArgument, cause, refused.reason)
	case ok:
		return newStatus(codes.FailedPrecondition, cause, refused.reason)
	case errors.Is(cause, core.ErrViolation):
		return newStatus(codes.InvalidArgument, cause,
			peerv1.RefusalReason_REFUSAL_REASON_PROTOCOL_VIOLATION)
	default: // hides the errors of gRPC and of this hub
		return status.Error(codes.Unavailable, "the link has ended")
	}
}

func newStatus(code codes.Code, err error, reason peerv1.RefusalReason) error {
	st, detailErr := status.New(code, err.Error()).WithDetails(&errdetails.ErrorInfo{
		Reason: nameOf(reason), Domain: errorDomain,
	})
	if detailErr != nil { // only if code is OK
		return status.Error(code, err.Error())
	}
	return st.Err()
}

// reasonIn returns the reason in a status of toStatus.
func reasonIn(st *status.Status) peerv1.RefusalReason {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return peerv1.RefusalReason(peerv1.RefusalReason_value[reasonPrefix+info.GetReason()])
		}
	}
	return peerv1.RefusalReason_REFUSAL_REASON_UNSPECIFIED
}

// validateMessage checks the rules in the proto. A missing message breaks them too.
func validateMessage(m proto.Message) error {
	if !m.ProtoReflect().IsValid() {
		name := m.ProtoReflect().Descriptor().Name()
		return fmt.Errorf("%w: %s is missing", core.ErrViolation, name)
	}
	if err := protovalidate.Validate(m); err != nil {
		return fmt.Errorf("%w: %w", core.ErrViolation, err)
	}
	return nil
}
