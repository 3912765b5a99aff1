package dial

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func failure(
	t *testing.T, code codes.Code, text, reason string,
	fields ...*errdetails.BadRequest_FieldViolation,
) error {
	t.Helper()
	s := status.New(code, text)
	var err error
	if reason != "" {
		s, err = s.WithDetails(&errdetails.ErrorInfo{
			Reason: reason, Domain: "connhub",
		}, &errdetails.BadRequest{FieldViolations: fields})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

func TestErrorsSayWhatWhyAndWhichField(t *testing.T) {
	const addr = "127.0.0.1:9090"
	field := func(name, description string) *errdetails.BadRequest_FieldViolation {
		return &errdetails.BadRequest_FieldViolation{Field: name, Description: description}
	}
	for _, tt := range []struct {
		err  error
		dial error
		want string
	}{
		{
			failure(t, codes.InvalidArgument, "bad", "LIMIT_EXCEEDED", field(
				"target.users[3]", "at most 1024 bytes",
			), field("ttl", "too long")), nil,
			"invalid argument: target.users[3]: at most 1024 bytes; ttl: too long (LIMIT_EXCEEDED)",
		},
		{failure(
			t, codes.NotFound, "group not found", "GROUP_NOT_FOUND",
		), nil, "not found: group not found (GROUP_NOT_FOUND)"},
		{failure(
			t, codes.NotFound, "evil\x1b[2J", "GROUP_NOT_FOUND",
		), nil, "not found: evil�[2J (GROUP_NOT_FOUND)"},
		{
			failure(t, codes.Unauthenticated, "no credentials", "CREDENTIALS_INVALID"), nil,
			"unauthenticated: no credentials (CREDENTIALS_INVALID). Give the secret with " +
				"--secret-file or CONNHUB_SECRET_FILE",
		},
		{
			failure(t, codes.Unavailable, "dial", ""), syscall.ECONNREFUSED,
			"can't reach 127.0.0.1:9090: connection refused. Is a hub running? Try: connhub dev",
		},
		{
			failure(t, codes.DeadlineExceeded, "x", ""), context.DeadlineExceeded,
			"can't reach 127.0.0.1:9090: timeout. Is a hub running? Try: connhub dev",
		},
		{
			failure(t, codes.Unavailable, "dial", ""), &net.OpError{Op: "dial", Err: &net.DNSError{
				Err: "no such host", Name: "hub.example", IsNotFound: true,
			}},
			"can't reach 127.0.0.1:9090: no such host hub.example. Is a hub running? Try: " +
				"connhub dev",
		},
		{
			failure(t, codes.Unavailable, "dial", ""), &net.OpError{
				Op: "dial", Err: &net.DNSError{Err: "server misbehaving", Name: "hub.example"},
			},
			"can't reach 127.0.0.1:9090: looking up hub.example: server misbehaving. Is a hub " +
				"running? Try: connhub dev",
		},
		{failure(
			t, codes.DeadlineExceeded, "x", "",
		), nil, "no answer from 127.0.0.1:9090 within 10s"},
		{
			failure(
				t, codes.Unavailable,
				`connection error: desc = "transport: authentication handshake failed: tls: no"`,
				"",
			),
			nil,
			"no hub at the other end of 127.0.0.1:9090: authentication handshake failed: tls: no",
		},
		{failure(t, codes.Canceled, "context canceled", ""), nil, "interrupted"},
		{failure(
			t, codes.Unimplemented, "unknown service", "",
		), nil, "127.0.0.1:9090: unknown service (unimplemented)"},
		{errors.New("plain"), nil, "127.0.0.1:9090: plain (unknown)"},
	} {
		got := (&callError{err: tt.err, addr: addr, limit: 10 * time.Second, dial: tt.dial}).Error()
		if got != tt.want {
			t.Errorf("%v:\n got %s\nwant %s", tt.err, got, tt.want)
		}
	}
}
