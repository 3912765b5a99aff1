package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// rendered returns what print writes, with or without colours, at noon.
func rendered(colour bool, print func(*terminal)) string {
	var out bytes.Buffer
	t := newTerminal(nil, &out, &out)
	t.out.on, t.err.on = colour, colour
	t.now = func() time.Time { return noon }
	print(t)
	return out.String()
}

func TestReceiptsAreSaidInWords(t *testing.T) {
	every := &controlv1.Receipt{MessageId: "m.6", Matched: 21}
	for i := range 6 {
		reason := controlv1.DropReason(i + 1)
		every.Dropped = append(
			every.Dropped, &controlv1.Dropped{Reason: reason, Count: int32(i) + 1},
		)
	}
	var out strings.Builder
	for _, r := range []*controlv1.Receipt{
		{MessageId: "m.1"},
		{MessageId: "m.2", Matched: 1, Written: 1, NotAckable: 1},
		{MessageId: "m.3", Matched: 3, Written: 2, Queued: 1},
		{
			MessageId: "m.4", Matched: 10, Pending: 1, Queued: 2, QueuedDetached: 3, Written: 1,
			Acked: 2,
			Dropped: []*controlv1.Dropped{
				{Reason: controlv1.DropReason_DROP_REASON_EXPIRED, Count: 1},
			},
		},
		{MessageId: "m.5", Matched: 1, Written: 1, Duplicate: true},
		every,
		{MessageId: "m.7", Matched: 1, Dropped: []*controlv1.Dropped{{Reason: 99, Count: 1}}},
		{MessageId: "m.8", Unmatched: &controlv1.Unmatched{
			Connections: []string{"x.y"},
			Users:       []string{"ann", "bob"}, Groups: []string{"evil\x1b[2J\u202egroup"},
		}},
	} {
		out.WriteString(rendered(false, func(t *terminal) {
			t.printReceipt(r, controlv1.Wait_WAIT_ACKED)
		}))
	}
	golden(t, "receipts.txt", out.String())
	golden(t, "receipt_colour.txt", rendered(true, func(t *terminal) {
		t.printReceipt(every, controlv1.Wait_WAIT_NONE)
	}))
	for reason := range controlv1.DropReason_name {
		if reason != 0 && dropWords[controlv1.DropReason(reason)] == "" {
			t.Errorf("%v has no words", controlv1.DropReason(reason))
		}
	}
}

func connectionsToShow() []*controlv1.Connection {
	return []*controlv1.Connection{
		{
			Id: "abcdefgh.abcdefghijklmnopqrstuvwxyz", Namespace: "default", User: "ann",
			Groups: []string{"blue", "red"}, Protocol: "json.connhub.v1",
			RemoteAddress: "192.0.2.7:50123",
			CreateTime:    timestamppb.New(noon.Add(-3*time.Minute - 20*time.Second)),
			State:         controlv1.ConnectionState_CONNECTION_STATE_ATTACHED, QueuedMessages: 12,
			QueuedBytes: 3456, UnackedMessages: 1, LastAcked: 77,
			RoundTripTime: durationpb.New(23_456 * time.Microsecond), Hub: "abcdefgh",
			Labels: map[string]string{"plan": "pro", "device": "phone\x1b["},
		},
		{
			Id: "abcdefgh.bbcdefghijklmnopqrstuvwxyz", User: "张伟",
			Groups: []string{"a group with a long name", "another group"}, Protocol: "plain",
			RemoteAddress: "[2001:db8::1]:443",
			CreateTime:    timestamppb.New(noon.Add(-50 * time.Hour)),
			State:         controlv1.ConnectionState_CONNECTION_STATE_DETACHED,
			RoundTripTime: durationpb.New(456 * time.Microsecond),
		},
		{
			Id: "abcdefgh.cbcdefghijklmnopqrstuvwxyz", Protocol: "plain", User: "bad\x1b]0;title\a",
			RemoteAddress: "192.0.2.8:1", CreateTime: timestamppb.New(noon),
			State: controlv1.ConnectionState_CONNECTION_STATE_CONNECTING,
		},
	}
}

func TestTablesAreAligned(t *testing.T) {
	list := connectionsToShow()
	golden(t, "connections.txt", rendered(false, func(t *terminal) { t.printConnections(list) }))
	golden(t, "connections_colour.txt", rendered(true, func(t *terminal) {
		t.printConnections(list)
	}))
	golden(t, "connection.txt", rendered(false, func(t *terminal) {
		t.printConnection(list[0])
		t.printConnection(list[2])
	}))
	golden(t, "groups.txt", rendered(false, func(t *terminal) {
		t.printGroups([]*controlv1.Group{{Name: "blue", Members: 3}, {Name: "日本", Members: 12345}})
	}))
	golden(t, "banner.txt", strings.ReplaceAll(rendered(false, func(t *terminal) {
		t.printBanner(
			addresses{"127.0.0.1:8080", "127.0.0.1:9090", "127.0.0.1:9100", ""}, false, "",
		)
		t.printBanner(
			addresses{"127.0.0.1:40001", "127.0.0.1:40002", "127.0.0.1:40003", ""}, true, "",
		)
	}), buildVersion(), "VERSION"))
}

func TestAgesAreSaidInTheirLargestUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "now", 0: "now", 999 * time.Millisecond: "now", time.Second: "1s ago",
		59 * time.Second: "59s ago",
		time.Minute:      "1m ago", 59*time.Minute + 59*time.Second: "59m ago", time.Hour: "1h ago",
		23 * time.Hour: "23h ago",
		24 * time.Hour: "1d ago", 400 * 24 * time.Hour: "400d ago",
	} {
		if got := ageWords(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}

func TestColoursAreForTerminalsOnly(t *testing.T) {
	if wantsColour(&bytes.Buffer{}) {
		t.Error("a buffer is no terminal")
	}
	if got := (palette{}).redText("x"); got != "x" {
		t.Errorf("without colours: %q", got)
	}
}

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
