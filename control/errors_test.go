package control

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/control/failure/failuretest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
)

// holdFieldError fails unless err is about this field. The description must hold the given text.
func holdFieldError(t *testing.T, err error, reason, field, description string) {
	t.Helper()
	failuretest.HoldError(t, err, codes.InvalidArgument, reason)
	_, bad, _ := failuretest.DetailsOf(err)
	violation := bad.GetFieldViolations()[0]
	have := violation.GetDescription()
	if violation.GetField() != field || have == "" || !strings.Contains(have, description) {
		t.Errorf("have %q: %q, want %q: %q", violation.GetField(), have, field, description)
	}
	if text := status.Convert(err).Message(); !strings.Contains(text, have) {
		t.Errorf("%q does not say %q", text, have)
	}
}

const (
	invalid  = "INVALID_FIELD"
	exceeded = "LIMIT_EXCEEDED"
	empty    = "TARGET_EMPTY"
)

// long is a name of n bytes.
func long(n int) string { return strings.Repeat("n", n) }

func many(n, bytes int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%0*d", bytes, i)
	}
	return names
}

// A fault is a request with a single fault, or, with an empty reason, a request at a limit.
type fault struct {
	name, reason, field, description string
	do                               func(context.Context, *fixture) error
}

// asking makes a good Send and changes it.
func asking(change func(*controlv1.SendRequest)) func(context.Context, *fixture) error {
	return func(ctx context.Context, f *fixture) error {
		req := &controlv1.SendRequest{Target: users("nobody"), Message: text("x")}
		change(req)
		_, err := f.delivery.Send(ctx, req)
		return err
	}
}

func targeting(target *controlv1.Target) func(context.Context, *fixture) error {
	return asking(func(r *controlv1.SendRequest) { r.Target = target })
}

func messaging(change func(*controlv1.Message)) func(context.Context, *fixture) error {
	return asking(func(r *controlv1.SendRequest) { change(r.Message) })
}

var targetFaults = []fault{
	{"target missing", empty, "target", "everyone", targeting(nil)},
	{"target empty", empty, "target", "everyone", targeting(&controlv1.Target{})},
	{"target with except only", empty, "target", "everyone", targeting(
		&controlv1.Target{Except: &controlv1.Exclusion{Users: []string{"a"}}},
	)},
	{"10,000 names", "", "", "", targeting(&controlv1.Target{
		Users: many(9000, 4), Except: &controlv1.Exclusion{Groups: many(1000, 4)},
	})},
	{"10,001 names", exceeded, "target", "10000", targeting(&controlv1.Target{
		Users: many(9000, 4), Except: &controlv1.Exclusion{Groups: many(1001, 4)},
	})},
	{"1 MiB of names", "", "", "", targeting(&controlv1.Target{Users: many(1024, 1024)})},
	{"1 MiB of names and a byte", exceeded, "target", "1048576", targeting(
		&controlv1.Target{Users: many(1024, 1024), Groups: []string{"g"}},
	)},
	{"connection of 1,024 bytes", "", "", "", targeting(
		&controlv1.Target{Connections: []string{long(1024)}},
	)},
	{"connection of 1,025 bytes", exceeded, "target.connections[1]", "1024", targeting(
		&controlv1.Target{Connections: []string{"c", long(1025)}},
	)},
	{"user empty", invalid, "target.users[0]", "empty", targeting(users(""))},
	{"user with NUL", invalid, "target.users[3]", "control", targeting(
		users("a", "b", "c", "d\x00"),
	)},
	{"group with DEL", invalid, "target.groups[0]", "control", targeting(
		&controlv1.Target{Groups: []string{"\x7f"}},
	)},
	{"group with a C1 control", invalid, "target.groups[0]", "control", targeting(
		&controlv1.Target{Groups: []string{"a\u009f"}},
	)},
	{"excluded connection empty", invalid, "target.except.connections[0]", "empty", targeting(
		&controlv1.Target{Everyone: true, Except: &controlv1.Exclusion{Connections: []string{""}}},
	)},
	{"excluded user too long", exceeded, "target.except.users[0]", "1024", targeting(
		&controlv1.Target{
			Everyone: true, Except: &controlv1.Exclusion{Users: []string{long(1025)}},
		},
	)},
	{"excluded group with a newline", invalid, "target.except.groups[0]", "control", targeting(
		&controlv1.Target{Everyone: true, Except: &controlv1.Exclusion{Groups: []string{"a\n"}}},
	)},
}

var messageFaults = []fault{
	{"message missing", invalid, "message", "required", asking(func(r *controlv1.SendRequest) {
		r.Message = nil
	})},
	{"payload missing", invalid, "message.payload", "", messaging(func(m *controlv1.Message) {
		m.Payload = nil
	})},
	{"text of 1 MiB", "", "", "", messaging(func(m *controlv1.Message) {
		m.Payload = &controlv1.Message_Text{Text: long(1 << 20)}
	})},
	{"text of 1 MiB and a byte", exceeded, "message.text", "1048576", messaging(
		func(m *controlv1.Message) { m.Payload = &controlv1.Message_Text{Text: long(1<<20 + 1)} },
	)},
	{"binary of 1 MiB", "", "", "", messaging(func(m *controlv1.Message) {
		m.Payload = &controlv1.Message_Binary{Binary: make([]byte, 1<<20)}
	})},
	{
		"binary of 1 MiB and a byte", exceeded, "message.binary", "1048576",
		messaging(func(m *controlv1.Message) {
			m.Payload = &controlv1.Message_Binary{Binary: make([]byte, 1<<20+1)}
		}),
	},
	{"protobuf of 1 MiB", "", "", "", messaging(func(m *controlv1.Message) {
		m.Payload = &controlv1.Message_Protobuf{Protobuf: make([]byte, 1<<20)}
	})},
	{
		"protobuf of 1 MiB and a byte", exceeded, "message.protobuf", "1048576",
		messaging(func(m *controlv1.Message) {
			m.Payload = &controlv1.Message_Protobuf{Protobuf: make([]byte, 1<<20+1)}
		}),
	},
	{"JSON of 1 MiB", "", "", "", messaging(func(m *controlv1.Message) {
		m.Payload = &controlv1.Message_Json{Json: `"` + long(1<<20-2) + `"`}
	})},
	{
		"JSON of 1 MiB and a byte", exceeded, "message.json", "1048576",
		messaging(func(m *controlv1.Message) {
			m.Payload = &controlv1.Message_Json{Json: `"` + long(1<<20-1) + `"`}
		}),
	},
	{"JSON empty", invalid, "message.json", "is empty", messaging(func(m *controlv1.Message) {
		m.Payload = &controlv1.Message_Json{}
	})},
	{"JSON broken", invalid, "message.json", "JSON", messaging(func(m *controlv1.Message) {
		m.Payload = &controlv1.Message_Json{Json: `{"a":1}}`}
	})},
	{"JSON given as an object by JavaScript", invalid, "message.json", "JSON.stringify", messaging(
		func(m *controlv1.Message) { m.Payload = &controlv1.Message_Json{Json: "[object Object]"} },
	)},
	{
		"JSON that is long text", invalid, "message.json", `begins with "ääääääääääääääää"`,
		messaging(func(m *controlv1.Message) {
			m.Payload = &controlv1.Message_Json{Json: strings.Repeat("ä", 100)}
		}),
	},
	{"JSON of two values", invalid, "message.json", "JSON", messaging(func(m *controlv1.Message) {
		m.Payload = &controlv1.Message_Json{Json: `1 2`}
	})},
	{"id of 1,024 bytes", "", "", "", messaging(func(m *controlv1.Message) { m.Id = long(1024) })},
	{"id of 1,025 bytes", exceeded, "message.id", "1024", messaging(func(m *controlv1.Message) {
		m.Id = long(1025)
	})},
	{"id with a tab", invalid, "message.id", "control", messaging(func(m *controlv1.Message) {
		m.Id = "a\tb"
	})},
	{"event of 1,024 bytes", "", "", "", messaging(func(m *controlv1.Message) {
		m.Event = long(1024)
	})},
	{"event of 1,025 bytes", exceeded, "message.event", "1024", messaging(
		func(m *controlv1.Message) { m.Event = long(1025) },
	)},
	{"event with a newline", invalid, "message.event", "control", messaging(
		func(m *controlv1.Message) { m.Event = "a\n" },
	)},
	{"metadata of 8 KiB", "", "", "", messaging(func(m *controlv1.Message) {
		m.Metadata = map[string]string{"a": long(4095), "b": long(4095)}
	})},
	{
		"metadata of 8 KiB and a byte", exceeded, "message.metadata", "8192",
		messaging(func(m *controlv1.Message) {
			m.Metadata = map[string]string{"a": long(4095), "b": long(4096)}
		}),
	},
	{"metadata name of 1,024 bytes", "", "", "", messaging(func(m *controlv1.Message) {
		m.Metadata = map[string]string{long(1024): ""}
	})},
	{"metadata name of 1,025 bytes", exceeded, "message.metadata", "1024", messaging(
		func(m *controlv1.Message) { m.Metadata = map[string]string{long(1025): ""} },
	)},
	{"metadata name empty", invalid, `message.metadata[""]`, "", messaging(
		func(m *controlv1.Message) { m.Metadata = map[string]string{"": "v"} },
	)},
	{"metadata name with a newline", invalid, `message.metadata["a\n"]`, "control", messaging(
		func(m *controlv1.Message) { m.Metadata = map[string]string{"a\n": "v"} },
	)},
	{"ttl of a day", "", "", "", messaging(func(m *controlv1.Message) {
		m.Ttl = durationpb.New(24 * time.Hour)
	})},
	{"ttl of more than a day", exceeded, "message.ttl", "86400s", messaging(
		func(m *controlv1.Message) { m.Ttl = durationpb.New(24*time.Hour + 1) },
	)},
	{"ttl shortest", "", "", "", messaging(func(m *controlv1.Message) {
		m.Ttl = durationpb.New(1)
	})},
	{"ttl zero", invalid, "message.ttl", "0s", messaging(func(m *controlv1.Message) {
		m.Ttl = durationpb.New(0)
	})},
	{"ttl below zero", invalid, "message.ttl", "0s", messaging(func(m *controlv1.Message) {
		m.Ttl = durationpb.New(-1)
	})},
	{"ttl beyond what durations hold", exceeded, "message.ttl", "", messaging(
		func(m *controlv1.Message) { m.Ttl = &durationpb.Duration{Seconds: 1 << 62} },
	)},
}

var sendFaults = []fault{
	{"namespace of 128 characters", "", "", "", asking(func(r *controlv1.SendRequest) {
		r.Namespace = "a" + strings.Repeat("0", 127)
	})},
	{"namespace of 129 characters", invalid, "namespace", "128", asking(
		func(r *controlv1.SendRequest) { r.Namespace = "a" + strings.Repeat("0", 128) },
	)},
	{"namespace in upper case", invalid, "namespace", "a-z", asking(func(r *controlv1.SendRequest) {
		r.Namespace = "Default"
	})},
	{"wait unknown", invalid, "wait", "", asking(func(r *controlv1.SendRequest) { r.Wait = 99 })},
	{"wait_timeout of 5 minutes", "", "", "", asking(func(r *controlv1.SendRequest) {
		r.WaitTimeout = durationpb.New(5 * time.Minute)
	})},
	{"wait_timeout of more", exceeded, "wait_timeout", "300s", asking(
		func(r *controlv1.SendRequest) { r.WaitTimeout = durationpb.New(5*time.Minute + 1) },
	)},
	{"wait_timeout below zero", invalid, "wait_timeout", "0s", asking(
		func(r *controlv1.SendRequest) { r.WaitTimeout = durationpb.New(-1) },
	)},
	{"policy unknown", invalid, "overflow_policy", "", asking(func(r *controlv1.SendRequest) {
		r.OverflowPolicy = 99
	})},
	{"detail unknown", invalid, "detail", "", asking(func(r *controlv1.SendRequest) {
		r.Detail = -1
	})},
	{
		"conflation without a key", invalid, "conflation_key",
		"CONFLATE", asking(func(r *controlv1.SendRequest) {
			r.OverflowPolicy = controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE
		}),
	},
	{"key without conflation", invalid, "conflation_key", "CONFLATE", asking(
		func(r *controlv1.SendRequest) { r.ConflationKey = "k" },
	)},
	{"key of 1,024 bytes", "", "", "", asking(func(r *controlv1.SendRequest) {
		r.OverflowPolicy, r.ConflationKey = controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE,
			long(1024)
	})},
	{
		"key of 1,025 bytes", exceeded, "conflation_key",
		"1024", asking(func(r *controlv1.SendRequest) {
			r.OverflowPolicy, r.ConflationKey = controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE,
				long(1025)
		}),
	},
	{"request_id of 1,024 bytes", "", "", "", asking(func(r *controlv1.SendRequest) {
		r.RequestId = long(1024)
	})},
	{"request_id of 1,025 bytes", exceeded, "request_id", "1024", asking(
		func(r *controlv1.SendRequest) { r.RequestId = long(1025) },
	)},
	{"request_id with a newline", invalid, "request_id", "control", asking(
		func(r *controlv1.SendRequest) { r.RequestId = "\n" },
	)},
	{"not a protobuf message", invalid, "", "protobuf", sendingBytes("\xff\xff")},
	{"text not UTF-8", invalid, "", "UTF-8", sendingBytes("\x0a\x01\xff")},
}

// sendingBytes calls Send with a request that a client library would not make.
func sendingBytes(request string) func(context.Context, *fixture) error {
	return func(ctx context.Context, f *fixture) error {
		return invokeRaw(
			ctx, f.conn, controlv1.DeliveryService_Send_FullMethodName, []byte(request),
		)
	}
}

func getting(id string) func(context.Context, *fixture) error {
	return func(ctx context.Context, f *fixture) error {
		_, err := f.connections.GetConnection(ctx, &controlv1.GetConnectionRequest{Connection: id})
		return err
	}
}

func listing(change func(*controlv1.ListConnectionsRequest)) func(context.Context, *fixture) error {
	return func(ctx context.Context, f *fixture) error {
		req := &controlv1.ListConnectionsRequest{Target: everyone()}
		change(req)
		_, err := f.connections.ListConnections(ctx, req)
		return err
	}
}

func closing(
	change func(*controlv1.CloseConnectionsRequest),
) func(context.Context, *fixture) error {
	return func(ctx context.Context, f *fixture) error {
		req := &controlv1.CloseConnectionsRequest{Target: users("nobody")}
		change(req)
		_, err := f.connections.CloseConnections(ctx, req)
		return err
	}
}

func coded(code int32) func(context.Context, *fixture) error {
	return closing(func(r *controlv1.CloseConnectionsRequest) { r.Code = code })
}

var connectionFaults = []fault{
	{"connection empty", invalid, "connection", "", getting("")},
	{"connection too long", exceeded, "connection", "1024", getting(long(1025))},
	{"connection with a newline", invalid, "connection", "control", getting("a\n")},
	{"list of everyone by default", "", "", "", listing(func(r *controlv1.ListConnectionsRequest) {
		r.Target = nil
	})},
	{"page of 1,000", "", "", "", listing(func(r *controlv1.ListConnectionsRequest) {
		r.PageSize = 1000
	})},
	{"page of 1,001", exceeded, "page_size", "1000", listing(
		func(r *controlv1.ListConnectionsRequest) { r.PageSize = 1001 },
	)},
	{"page of -1", invalid, "page_size", "0", listing(func(r *controlv1.ListConnectionsRequest) {
		r.PageSize = -1
	})},
	{"page token foreign", "PAGE_TOKEN_INVALID", "page_token", "", listing(
		func(r *controlv1.ListConnectionsRequest) { r.PageToken = "abc" },
	)},
	{"page token too long", exceeded, "page_token", "4096", listing(
		func(r *controlv1.ListConnectionsRequest) { r.PageToken = long(4097) },
	)},
	{"close nothing", empty, "target", "everyone", closing(
		func(r *controlv1.CloseConnectionsRequest) { r.Target = nil },
	)},
	{"close everyone without a bound", invalid, "max_matched", "everyone", closing(
		func(r *controlv1.CloseConnectionsRequest) { r.Target = everyone() },
	)},
	{"close everyone with a bound", "", "", "", closing(func(r *controlv1.CloseConnectionsRequest) {
		r.Target, r.MaxMatched = everyone(), 1
	})},
	{"max_matched below zero", invalid, "max_matched", "0", closing(
		func(r *controlv1.CloseConnectionsRequest) { r.MaxMatched = -1 },
	)},
	{"reason of 123 bytes", "", "", "", closing(func(r *controlv1.CloseConnectionsRequest) {
		r.Reason = long(cause.MaxReason)
	})},
	{"reason of 124 bytes", exceeded, "reason", "123", closing(
		func(r *controlv1.CloseConnectionsRequest) { r.Reason = long(cause.MaxReason + 1) },
	)},
	{"code 1000", "", "", "", coded(1000)},
	{"code 1002", invalid, "code", "1000, 1001, 1008", coded(1002)},
	{"code 1005", invalid, "code", "1000, 1001, 1008", coded(1005)},
	{"code 1011", "", "", "", coded(1011)},
	{"code 1013", "", "", "", coded(1013)},
	{"code 2999", invalid, "code", "3000", coded(2999)},
	{"code 3000", "", "", "", coded(3000)},
	{"code 4999", "", "", "", coded(4999)},
	{"code 5000", invalid, "code", "4999", coded(5000)},
	{"code -1", invalid, "code", "3000", coded(-1)},
}

func adding(groups ...string) func(context.Context, *fixture) error {
	return func(ctx context.Context, f *fixture) error {
		_, err := f.groups.AddToGroups(
			ctx, &controlv1.AddToGroupsRequest{Target: users("nobody"), Groups: groups},
		)
		return err
	}
}

func removing(
	target *controlv1.Target, all bool, groups ...string,
) func(context.Context, *fixture) error {
	return func(ctx context.Context, f *fixture) error {
		_, err := f.groups.RemoveFromGroups(
			ctx, &controlv1.RemoveFromGroupsRequest{Target: target, Groups: groups, AllGroups: all},
		)
		return err
	}
}

func listingGroups(req *controlv1.ListGroupsRequest) func(context.Context, *fixture) error {
	return func(ctx context.Context, f *fixture) error {
		_, err := f.groups.ListGroups(ctx, req)
		return err
	}
}

// labels are n labels with names and texts of so many bytes.
func labels(n, name, text int) map[string]string {
	all := make(map[string]string, n)
	for _, l := range many(n, name) {
		all[l] = long(text)
	}
	return all
}

func issuing(req *controlv1.IssueClientTokenRequest) func(context.Context, *fixture) error {
	return func(ctx context.Context, f *fixture) error {
		_, err := f.access.IssueClientToken(ctx, req)
		return err
	}
}

func lasting(d time.Duration) func(context.Context, *fixture) error {
	return issuing(&controlv1.IssueClientTokenRequest{Ttl: durationpb.New(d)})
}

var groupFaults = []fault{
	{"add to no group", invalid, "groups", "1", adding()},
	{"add to 128 groups", "", "", "", adding(many(128, 4)...)},
	{"add to 129 groups", exceeded, "groups", "128", adding(many(129, 4)...)},
	{"add to an empty name", invalid, "groups[1]", "", adding("a", "")},
	{"add to a long name", exceeded, "groups[0]", "1024", adding(long(1025))},
	{"add to a name with a newline", invalid, "groups[0]", "control", adding("a\n")},
	{"remove nobody", empty, "target", "everyone", removing(nil, true)},
	{"remove from no group", invalid, "groups", "all_groups", removing(everyone(), false)},
	{"remove from some and all", invalid, "groups", "all_groups", removing(everyone(), true, "g")},
	{"remove from 128 groups", "", "", "", removing(everyone(), false, many(128, 4)...)},
	{"remove from 129 groups", exceeded, "groups", "128", removing(
		everyone(), false, many(129, 4)...,
	)},
	{"list 1,001 groups", exceeded, "page_size", "1000", listingGroups(
		&controlv1.ListGroupsRequest{PageSize: 1001},
	)},
	{"list -1 groups", invalid, "page_size", "0", listingGroups(
		&controlv1.ListGroupsRequest{PageSize: -1},
	)},
	{"list a foreign page", "PAGE_TOKEN_INVALID", "page_token", "", listingGroups(
		&controlv1.ListGroupsRequest{PageToken: "abc"},
	)},
	{"list a bad namespace", invalid, "namespace", "a-z", listingGroups(
		&controlv1.ListGroupsRequest{Namespace: "-"},
	)},
	{
		"get a group without a name", invalid, "group",
		"", func(ctx context.Context, f *fixture) error {
			_, err := f.groups.GetGroup(ctx, &controlv1.GetGroupRequest{})
			return err
		},
	},

	{"token for a user of 1,024 bytes", "", "", "", issuing(
		&controlv1.IssueClientTokenRequest{User: long(1024)},
	)},
	{"token for a user of 1,025 bytes", exceeded, "user", "1024", issuing(
		&controlv1.IssueClientTokenRequest{User: long(1025)},
	)},
	{"token for a user with a newline", invalid, "user", "control", issuing(
		&controlv1.IssueClientTokenRequest{User: "a\n"},
	)},
	{"token for 128 groups", "", "", "", issuing(
		&controlv1.IssueClientTokenRequest{Groups: many(auth.MaxGroups, 4)},
	)},
	{"token for 129 groups", exceeded, "groups", "128", issuing(
		&controlv1.IssueClientTokenRequest{Groups: many(auth.MaxGroups+1, 4)},
	)},
	{"token with 16 labels", "", "", "", issuing(
		&controlv1.IssueClientTokenRequest{Labels: labels(16, 64, 256)},
	)},
	{"token with 17 labels", exceeded, "labels", "16", issuing(
		&controlv1.IssueClientTokenRequest{Labels: labels(17, 4, 4)},
	)},
	{"token with a label of 65 bytes", exceeded, `labels["` + strings.Repeat("0", 65) +
		`"]`, "64", issuing(&controlv1.IssueClientTokenRequest{Labels: labels(1, 65, 1)})},
	{"token with a text of 257 bytes", exceeded, `labels["0000"]`, "256", issuing(
		&controlv1.IssueClientTokenRequest{Labels: labels(1, 4, 257)},
	)},
	{"token with a label without name", invalid, `labels[""]`, "", issuing(
		&controlv1.IssueClientTokenRequest{Labels: map[string]string{"": "x"}},
	)},
	{"token with a newline in a label", invalid, `labels["a\n"]`, "control", issuing(
		&controlv1.IssueClientTokenRequest{Labels: map[string]string{"a\n": "x"}},
	)},
	{"token with a newline in a label's text", invalid, `labels["a"]`, "control", issuing(
		&controlv1.IssueClientTokenRequest{Labels: map[string]string{"a": "\n"}},
	)},
	{"token for an empty group", invalid, "groups[0]", "", issuing(
		&controlv1.IssueClientTokenRequest{Groups: []string{""}},
	)},
	{"token for a second", "", "", "", lasting(time.Second)},
	{"token for less than a second", invalid, "ttl", "1s", lasting(time.Second - 1)},
	{"token for 30 days", "", "", "", lasting(30 * 24 * time.Hour)},
	{"token for more than 30 days", exceeded, "ttl", "2592000s", lasting(30*24*time.Hour + 1)},
}

func TestEveryLimitAndRuleOfARequestIsHeld(t *testing.T) {
	f := newFixture(t)
	for _, faults := range [][]fault{
		targetFaults, messageFaults, sendFaults, connectionFaults, groupFaults, permissionFaults(),
	} {
		for _, c := range faults {
			t.Run(c.name, func(t *testing.T) {
				err := c.do(t.Context(), f)
				if c.reason != "" {
					holdFieldError(t, err, c.reason, c.field, c.description)
				} else if err != nil {
					t.Error(err)
				}
			})
		}
	}
	if log := f.log.String(); log != "" {
		t.Errorf("a caller's fault was logged: %s", log)
	}
}

func TestEveryOtherErrorHasItsReason(t *testing.T) {
	f := newFixture(t)
	f.connect(t, &wireProtocol{}, "ann")
	f.connect(t, &wireProtocol{}, "ann")
	for _, c := range []struct {
		name   string
		code   codes.Code
		reason string
		do     func(context.Context, *fixture) error
	}{
		{"no such connection", codes.NotFound, "CONNECTION_NOT_FOUND", getting(
			string(hub.NewID()) + ".aaaaaaaaaaaaaaaaaaaaaaaaaa",
		)},
		{"not a connection id", codes.NotFound, "CONNECTION_NOT_FOUND", getting("%00/../ö")},
		{
			"no such group", codes.NotFound, "GROUP_NOT_FOUND",
			func(ctx context.Context, f *fixture) error {
				_, err := f.groups.GetGroup(ctx, &controlv1.GetGroupRequest{Group: "g"})
				return err
			},
		},
		{"too many matched", codes.FailedPrecondition, "TOO_MANY_MATCHED", closing(
			func(r *controlv1.CloseConnectionsRequest) { r.Target, r.MaxMatched = everyone(), 1 },
		)},
		{
			"request id reused", codes.AlreadyExists, "REQUEST_ID_REUSED",
			func(ctx context.Context, f *fixture) error {
				if err := asking(func(r *controlv1.SendRequest) {
					r.RequestId = "r"
				})(ctx, f); err != nil {
					return err
				}
				return asking(func(r *controlv1.SendRequest) {
					r.RequestId, r.Target = "r", everyone()
				})(ctx, f)
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			failuretest.HoldError(t, c.do(t.Context(), f), c.code, c.reason)
		})
	}
	if f.hub.Len() != 2 {
		t.Errorf("%d connections are left of 2", f.hub.Len())
	}
}

func TestWithoutAKeyNoTokenIsIssued(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Tokens, c.PublicURL = nil, nil })
	failuretest.HoldError(t, issuing(
		&controlv1.IssueClientTokenRequest{},
	)(t.Context(), f), codes.FailedPrecondition, "NO_SIGNING_KEY")
}

func TestALeavingHubSaysSo(t *testing.T) {
	f := newFixture(t)
	if err := f.hub.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := asking(func(*controlv1.SendRequest) {})(t.Context(), f)
	failuretest.HoldError(t, err, codes.Unavailable, "SHUTTING_DOWN")
}
