// Package failuretest checks errors of the API in tests.
package failuretest

import (
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// DetailsOf returns the details that an error may carry, nil for those that it does not.
func DetailsOf(err error) (
	info *errdetails.ErrorInfo, bad *errdetails.BadRequest, retry *errdetails.RetryInfo,
) {
	for _, detail := range status.Convert(err).Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.BadRequest:
			bad = d
		case *errdetails.RetryInfo:
			retry = d
		}
	}
	return info, bad, retry
}

// HoldError fails unless err has this code and reason and is a complete error of the API.
func HoldError(t testing.TB, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("have %v, want %v", err, code)
	}
	info, bad, retry := DetailsOf(err)
	if info.GetReason() != reason || info.GetDomain() != "connhub" {
		t.Errorf("have reason %q in domain %q, want %q", info.GetReason(), info.GetDomain(), reason)
	}
	if (retry != nil) != (code == codes.Unavailable || code == codes.ResourceExhausted) {
		t.Errorf("%v: RetryInfo %v", code, retry)
	}
	if (bad != nil) != (code == codes.InvalidArgument) {
		t.Errorf("%v: BadRequest %v", code, bad)
	}
}
