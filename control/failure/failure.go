// Package failure has every error of the control API in one table: the sentinel in Go, the status
// code and the reason for the caller. ToStatus turns an error into a status, and FromStatus turns
// the status of a peer back. It is constant, so it is safe for concurrent use, and it never waits.
package failure

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// errorDomain is the domain of every ErrorInfo of this API.
const errorDomain = "connhub"

// retryDelay is the delay in RetryInfo: long enough for a load balancer to notice that a hub
// leaves, short enough for a send to be still worth it.
const retryDelay = time.Second

// The errors of the control API beside those of hub. The caller reads their texts. An error about
// a field comes as a *FieldError.
var (
	ErrInvalidField       = errors.New("a field breaks a rule")
	ErrLimitExceeded      = errors.New("a field is over a limit")
	ErrTargetEmpty        = errors.New("the target names nothing")
	ErrPageTokenInvalid   = errors.New("the page token was not given out for this request")
	ErrCredentialsInvalid = errors.New("credentials are missing or wrong")
	ErrRoleNotAllowed     = errors.New("these credentials are not for this method")
	ErrUnknownMethod      = errors.New("there is no such method")
	ErrNoSigningKey       = errors.New("the hub has no key to sign client tokens with")
	ErrHubsUnreachable    = errors.New("a hub that may matter could not be asked")
	ErrHubNotFound        = errors.New("the cluster has no such hub")
	ErrHubStarting        = errors.New("the hub is starting: the other hubs do not know it yet")
	errSubscriberSlow     = errors.New("events happen faster than they are read")
	errTooManySubscribers = errors.New("the hub has the most subscribers it may have")
	ErrTooManyCalls       = errors.New("what the caller has in flight holds the most bytes of " +
		"calls that it may hold (--call-bytes)")
	ErrTooManyOpenCalls = errors.New("the connection has the most calls in flight " +
		"that need no credential")
	ErrTooManyConnections = errors.New("the hub is full, and this credential has " +
		"the most connections that it may have there")
	ErrInternal = errors.New("internal error")
)

// statusRow is a kind of error: the sentinel in Go, and the code and reason for the caller.
type statusRow struct {
	err    error
	code   codes.Code
	reason controlv1.ErrorReason
}

// statusTable is read in both directions. If several sentinels share a reason, a status with that
// reason turns back into the first of them. A caller gets the text of err, never the text of an
// error that wraps it.
var statusTable = slices.Concat(
	rowsWith(codes.InvalidArgument, []reasonRow{
		{ErrInvalidField, controlv1.ErrorReason_ERROR_REASON_INVALID_FIELD},
		{ErrLimitExceeded, controlv1.ErrorReason_ERROR_REASON_LIMIT_EXCEEDED},
		{ErrTargetEmpty, controlv1.ErrorReason_ERROR_REASON_TARGET_EMPTY},
		{ErrPageTokenInvalid, controlv1.ErrorReason_ERROR_REASON_PAGE_TOKEN_INVALID},
	}),
	rowsWith(codes.Unauthenticated, []reasonRow{
		{ErrCredentialsInvalid, controlv1.ErrorReason_ERROR_REASON_CREDENTIALS_INVALID},
	}),
	rowsWith(codes.PermissionDenied, []reasonRow{
		{ErrRoleNotAllowed, controlv1.ErrorReason_ERROR_REASON_ROLE_NOT_ALLOWED},
	}),
	rowsWith(codes.Unimplemented, []reasonRow{
		{ErrUnknownMethod, controlv1.ErrorReason_ERROR_REASON_UNKNOWN_METHOD},
	}),
	rowsWith(codes.FailedPrecondition, []reasonRow{
		{ErrNoSigningKey, controlv1.ErrorReason_ERROR_REASON_NO_SIGNING_KEY},
	}),
	rowsWith(codes.NotFound, []reasonRow{
		{hub.ErrConnectionNotFound, controlv1.ErrorReason_ERROR_REASON_CONNECTION_NOT_FOUND},
		{hub.ErrInvalidConnectionID, controlv1.ErrorReason_ERROR_REASON_CONNECTION_NOT_FOUND},
		{hub.ErrClosed, controlv1.ErrorReason_ERROR_REASON_CONNECTION_NOT_FOUND},
		{hub.ErrGroupNotFound, controlv1.ErrorReason_ERROR_REASON_GROUP_NOT_FOUND},
		{ErrHubNotFound, controlv1.ErrorReason_ERROR_REASON_HUB_NOT_FOUND},
	}),
	rowsWith(codes.FailedPrecondition, []reasonRow{
		{hub.ErrTooManyMatched, controlv1.ErrorReason_ERROR_REASON_TOO_MANY_MATCHED},
	}),
	rowsWith(codes.AlreadyExists, []reasonRow{
		{hub.ErrRequestIDReused, controlv1.ErrorReason_ERROR_REASON_REQUEST_ID_REUSED},
	}),
	rowsWith(codes.Unavailable, []reasonRow{
		{hub.ErrShuttingDown, controlv1.ErrorReason_ERROR_REASON_SHUTTING_DOWN},
		{ErrHubsUnreachable, controlv1.ErrorReason_ERROR_REASON_HUBS_UNREACHABLE},
		{ErrHubStarting, controlv1.ErrorReason_ERROR_REASON_HUB_STARTING},
	}),
	rowsWith(codes.ResourceExhausted, []reasonRow{
		{errSubscriberSlow, controlv1.ErrorReason_ERROR_REASON_SUBSCRIBER_SLOW},
		{errTooManySubscribers, controlv1.ErrorReason_ERROR_REASON_TOO_MANY_SUBSCRIBERS},
		{ErrTooManyCalls, controlv1.ErrorReason_ERROR_REASON_TOO_MANY_CALLS},
		{ErrTooManyOpenCalls, controlv1.ErrorReason_ERROR_REASON_TOO_MANY_CALLS},
		{ErrTooManyConnections, controlv1.ErrorReason_ERROR_REASON_TOO_MANY_CONNECTIONS},
	}),
	rowsWith(codes.DeadlineExceeded, []reasonRow{
		{context.DeadlineExceeded, controlv1.ErrorReason_ERROR_REASON_DEADLINE_EXCEEDED},
	}),
	rowsWith(codes.Canceled, []reasonRow{
		{context.Canceled, controlv1.ErrorReason_ERROR_REASON_CANCELLED},
	}),
	rowsWith(codes.Internal, []reasonRow{
		{ErrInternal, controlv1.ErrorReason_ERROR_REASON_INTERNAL},
		// The rest are errors between the hub and its clients. No method of this API leads to them,
		// so such an error is a fault.
		{hub.ErrGroupLimit, controlv1.ErrorReason_ERROR_REASON_INTERNAL},
		{hub.ErrGrantLimit, controlv1.ErrorReason_ERROR_REASON_INTERNAL},
		{hub.ErrTooManyConnections, controlv1.ErrorReason_ERROR_REASON_INTERNAL},
		{hub.ErrAckForged, controlv1.ErrorReason_ERROR_REASON_INTERNAL},
		{hub.ErrResumeRefused, controlv1.ErrorReason_ERROR_REASON_INTERNAL},
	}),
)

// reasonRow is a statusRow without its code.
type reasonRow struct {
	err    error
	reason controlv1.ErrorReason
}

// rowsWith returns the rows of statusTable for errors that share a code.
func rowsWith(code codes.Code, reasons []reasonRow) []statusRow {
	rows := make([]statusRow, len(reasons))
	for i, r := range reasons {
		rows[i] = statusRow{r.err, code, r.reason}
	}
	return rows
}

// internalRow is the row of errors without a row of their own.
var internalRow = statusRow{
	ErrInternal, codes.Internal, controlv1.ErrorReason_ERROR_REASON_INTERNAL,
}

// FieldError is an error about a field of a request.
type FieldError struct {
	Kind error // the sentinel: ErrInvalidField, ErrLimitExceeded and the like
	// Field is a path in proto names, such as "target.users[3]"; empty: the request as a whole.
	Field       string
	Description string // for the caller; a limit is named with its number
}

// InvalidField returns the error about a field that breaks a rule.
func InvalidField(field, description string) *FieldError {
	return &FieldError{ErrInvalidField, field, description}
}

// LimitExceeded returns the error about a field that is over a limit.
func LimitExceeded(field, format string, args ...any) *FieldError {
	return &FieldError{ErrLimitExceeded, field, fmt.Sprintf(format, args...)}
}

// Error implements error: the field and the description.
func (e *FieldError) Error() string {
	if e.Field == "" {
		return e.Description
	}
	return e.Field + ": " + e.Description
}

// Unwrap returns the sentinel.
func (e *FieldError) Unwrap() error { return e.Kind }

// reasoned is an error of a service of control.Config.Services. It has no row in the table, but
// names a reason of the API.
type reasoned interface {
	error
	Reason() controlv1.ErrorReason
	Field() string // the wrong field of the request; the error's text tells the caller why
}

// rowOf returns the row of err.
func rowOf(err error) statusRow {
	if r, ok := errors.AsType[reasoned](err); ok {
		for _, row := range statusTable {
			if row.reason == r.Reason() {
				return row
			}
		}
	}
	for _, row := range statusTable {
		if errors.Is(err, row.err) {
			return row
		}
	}
	return internalRow
}

// CodeOf returns the status code of err; codes.Internal if it has no row in the table.
func CodeOf(err error) codes.Code { return rowOf(err).code }

// ToStatus turns an error into the status for a caller.
func ToStatus(err error) error {
	row := rowOf(err)
	text := row.err.Error()
	details := []protoadapt.MessageV1{
		&errdetails.ErrorInfo{Reason: reasonName(row.reason), Domain: errorDomain},
	}
	if r, ok := errors.AsType[reasoned](err); ok && row.code == codes.InvalidArgument {
		err = &FieldError{row.err, r.Field(), r.Error()}
	}
	if field, ok := errors.AsType[*FieldError](err); ok {
		text = field.Error()
		violation := &errdetails.BadRequest_FieldViolation{
			Field: field.Field, Description: field.Description, Reason: reasonName(row.reason),
		}
		details = append(details, &errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{violation},
		})
	}
	if row.code == codes.Internal {
		text = ErrInternal.Error()
	}
	if row.code == codes.Unavailable || row.code == codes.ResourceExhausted {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryDelay)})
	}
	st, detailErr := status.New(row.code, text).WithDetails(details...)
	if detailErr != nil { // only for a code OK, which no row has
		return status.Error(codes.Internal, ErrInternal.Error())
	}
	return st.Err()
}

// FromStatus turns a status that ToStatus made, here or at a peer, back into the error. errors.Is
// finds the sentinel in it, and a FieldError names the field. Any error without a row comes back as
// it is.
func FromStatus(err error) error {
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	var info *errdetails.ErrorInfo
	var violation *errdetails.BadRequest_FieldViolation
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.BadRequest:
			if v := d.GetFieldViolations(); len(v) > 0 {
				violation = v[0]
			}
		}
	}
	row, ok := rowOfStatus(st.Code(), info)
	if !ok {
		return err
	}
	if violation != nil {
		return &FieldError{row.err, violation.GetField(), violation.GetDescription()}
	}
	return row.err
}

func rowOfStatus(code codes.Code, info *errdetails.ErrorInfo) (statusRow, bool) {
	if info.GetDomain() != errorDomain {
		return statusRow{}, false
	}
	for _, row := range statusTable {
		if row.code == code && reasonName(row.reason) == info.GetReason() {
			return row, true
		}
	}
	return statusRow{}, false
}

// reasonName returns the text of a reason in an ErrorInfo.
func reasonName(r controlv1.ErrorReason) string {
	return strings.TrimPrefix(r.String(), "ERROR_REASON_")
}
