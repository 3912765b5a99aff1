package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/connhub/connhub/cli/terminal"
	"github.com/connhub/connhub/cli/terminal/terminaltest"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
	"github.com/connhub/connhub/internal/testkit"
)

// everyEvent has each kind of event, some with characters that a terminal must not get.
func everyEvent() *eventsv1.SubscribeResponse {
	r := &eventsv1.SubscribeResponse{
		Subscribed: &eventsv1.Subscribed{Hub: "aaaaaaaa"}, GoingAway: &eventsv1.GoingAway{},
	}
	for i, e := range []*eventsv1.Event{
		{Kind: &eventsv1.Event_Connected{
			Connected: &eventsv1.Connected{RemoteAddress: "10.0.0.1:5"},
		}},
		{User: "ann", Kind: &eventsv1.Event_Message{Message: &eventsv1.Message{
			Name: "say", Payload: &eventsv1.Message_Text{Text: "Grüße 🍜\n\x1b[2J"},
		}}},
		{User: "ann", Kind: &eventsv1.Event_Message{Message: &eventsv1.Message{
			Name: "cl\u202eick", Payload: &eventsv1.Message_Json{Json: `{"a": 1}`},
		}}},
		{User: "boris", Kind: &eventsv1.Event_Message{Message: &eventsv1.Message{
			Name: "raw", Payload: &eventsv1.Message_Binary{Binary: []byte{0, 1}},
		}}},
		{User: "ann", Kind: &eventsv1.Event_Message{Message: &eventsv1.Message{
			Name: "long", Payload: &eventsv1.Message_Text{Text: strings.Repeat("x", 1000)},
		}}},
		{User: strings.Repeat("n", 40), Kind: &eventsv1.Event_Gap{
			Gap: &eventsv1.Gap{Count: 3, Reason: eventsv1.GapReason_GAP_REASON_SUBSCRIBER_SLOW},
		}},
		{User: "ann", Kind: &eventsv1.Event_Disconnected{Disconnected: &eventsv1.Disconnected{
			Cause: eventsv1.DisconnectCause_DISCONNECT_CAUSE_LOST,
		}}},
		{User: "ann", Kind: &eventsv1.Event_Disconnected{Disconnected: &eventsv1.Disconnected{
			Cause: eventsv1.DisconnectCause_DISCONNECT_CAUSE_BACKEND, Code: 4000,
			Reason: "en\"ough",
		}}},
		{},
	} {
		e.Ordinal, e.Connection, e.Protocol = int64(i+1),
			"aaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbb", "plain"
		if i < 8 { // a hub of an older version does not say which it is
			e.Hub = "aaaaaaaa"
		}
		e.Id = e.GetConnection() + "/1"
		e.Time = timestamppb.New(terminaltest.Noon.Add(time.Duration(i) * 1234 * time.Millisecond))
		r.Events = append(r.Events, e)
	}
	return r
}

func TestEventsAreALineEach(t *testing.T) {
	for name, colour := range map[string]bool{"events.txt": false, "events_colour.txt": true} {
		testkit.CompareGolden(t, name, terminaltest.Render(colour, func(term *terminal.Terminal) {
			p := &eventPrinter{t: term}
			if err := p.printResponse("127.0.0.1:9090", everyEvent()); err != nil {
				t.Error(err)
			}
		}))
	}
	var out bytes.Buffer
	term := terminal.New(nil, &out, &bytes.Buffer{})
	if err := (&eventPrinter{t: term, json: true}).printResponse("", everyEvent()); err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	if len(lines) != len(everyEvent().GetEvents()) {
		t.Errorf("%d lines: %s", len(lines), out.String())
	}
	for _, line := range lines {
		if err := protojson.Unmarshal(line, &eventsv1.Event{}); err != nil ||
			bytes.Contains(line, []byte(": ")) && !bytes.Contains(line, []byte(`\": `)) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
