package cli

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/testkit"
)

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
			MessageId: "m.4", Matched: 14, Pending: 1, Queued: 2, QueuedDetached: 3, Written: 1,
			Acked: 2, InTransfer: 4,
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
		out.WriteString(terminaltest.Render(false, func(t *terminal.Terminal) {
			printReceipt(t, r, controlv1.Wait_WAIT_ACKED)
		}))
	}
	testkit.CompareGolden(t, "receipts.txt", out.String())
	testkit.CompareGolden(t, "receipt_colour.txt", terminaltest.Render(true, func(
		t *terminal.Terminal,
	) {
		printReceipt(t, every, controlv1.Wait_WAIT_NONE)
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
			CreateTime:    timestamppb.New(terminaltest.Noon.Add(-3*time.Minute - 20*time.Second)),
			State:         controlv1.ConnectionState_CONNECTION_STATE_ATTACHED, QueuedMessages: 12,
			QueuedBytes: 3456, UnackedMessages: 1, LastAcked: 77,
			RoundTripTime: durationpb.New(23_456 * time.Microsecond), Hub: "abcdefgh",
			Labels: map[string]string{"plan": "pro", "device": "phone\x1b["},
		},
		{
			Id: "abcdefgh.bbcdefghijklmnopqrstuvwxyz", User: "张伟",
			Groups: []string{"a group with a long name", "another group"}, Protocol: "plain",
			RemoteAddress: "[2001:db8::1]:443",
			CreateTime:    timestamppb.New(terminaltest.Noon.Add(-50 * time.Hour)),
			State:         controlv1.ConnectionState_CONNECTION_STATE_DETACHED,
			RoundTripTime: durationpb.New(456 * time.Microsecond),
		},
		{
			Id: "abcdefgh.cbcdefghijklmnopqrstuvwxyz", Protocol: "plain", User: "bad\x1b]0;title\a",
			RemoteAddress: "192.0.2.8:1", CreateTime: timestamppb.New(terminaltest.Noon),
			State: controlv1.ConnectionState_CONNECTION_STATE_CONNECTING,
		},
	}
}

func TestTablesAreAligned(t *testing.T) {
	list := connectionsToShow()
	testkit.CompareGolden(t, "connections.txt",
		terminaltest.Render(false, func(t *terminal.Terminal) { printConnections(t, list) }))
	testkit.CompareGolden(t, "connections_colour.txt", terminaltest.Render(true, func(
		t *terminal.Terminal,
	) {
		printConnections(t, list)
	}))
	testkit.CompareGolden(t, "connection.txt", terminaltest.Render(false, func(
		t *terminal.Terminal,
	) {
		printConnection(t, list[0])
		printConnection(t, list[2])
	}))
	testkit.CompareGolden(t, "groups.txt", terminaltest.Render(false, func(t *terminal.Terminal) {
		printGroups(t, []*controlv1.Group{{Name: "blue", Members: 3}, {Name: "日本", Members: 12345}})
	}))
}
