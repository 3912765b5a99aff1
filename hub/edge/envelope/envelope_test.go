package envelope_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge/envelope"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/framing"
)

// framed is the protocol on a WebSocket.
var framed = framing.WebSocket(envelope.Protocol{})

// body checks the header of a text frame and returns the bytes behind it.
func body(t *testing.T, b []byte) string {
	t.Helper()
	for n := 2; n <= frame.MaxHeader; n++ {
		if len(b) >= n && bytes.Equal(b[:n], frame.AppendHeader(nil, frame.Text, true, len(b)-n)) {
			return string(b[n:])
		}
	}
	t.Fatalf("not one text frame: % x ...", b[:min(len(b), 12)])
	return ""
}

func TestEnvelopeShowsWhatTheMessageHas(t *testing.T) {
	for _, tc := range []struct {
		name    string
		message hub.Message
		route   hub.Route
		want    string
	}{
		{
			"the least",
			hub.Message{ID: "m1", Kind: hub.Text, Payload: []byte("hi")},
			hub.Route{Kind: hub.RouteEveryone},
			`{"type":"message","id":"m1","route":"everyone","dataType":"text","data":"hi"}`,
		},
		{
			"everything",
			hub.Message{
				ID: "m1", Event: "news", Kind: hub.JSON, Payload: []byte(`{"n": 1.0}`),
				Sender:      hub.Sender{Connection: "c", User: "ann"},
				Metadata:    map[string]string{"b": "2", "a": "1"},
				TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
			},
			hub.Route{Kind: hub.RouteGroup, Group: "g"},
			`{"type":"message","id":"m1","route":"group","group":"g","event":"news",` +
				`"from":{"connectionId":"c","user":"ann"},"metadata":{"a":"1","b":"2"},` +
				`"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",` +
				`"dataType":"json","data":{"n": 1.0}}`,
		},
		{
			"sender without user",
			hub.Message{ID: "m1", Kind: hub.Text, Sender: hub.Sender{Connection: "c"}},
			hub.Route{Kind: hub.RouteUser},
			`{"type":"message","id":"m1","route":"user","from":{"connectionId":"c"},` +
				`"dataType":"text","data":""}`,
		},
		{
			"binary",
			hub.Message{ID: "m1", Kind: hub.Binary, Payload: []byte{0, 0xff, 0xfe, 1}},
			hub.Route{Kind: hub.RouteConnection},
			`{"type":"message","id":"m1","route":"connection",` +
				`"dataType":"binary","data":"AP/+AQ=="}`,
		},
		{
			"only what must be is escaped",
			hub.Message{ID: "m1", Kind: hub.Text, Payload: []byte("<\"\\\n\x01é🙂>&")},
			hub.Route{Kind: hub.RouteUser},
			`{"type":"message","id":"m1","route":"user",` +
				`"dataType":"text","data":"<\"\\\n\u0001é🙂>&"}`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := body(t, framed.Encode(&tc.message, tc.route))
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("envelope (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryLengthOfHeaderFits(t *testing.T) {
	for _, n := range []int{0, 1, 30, 200, 60_000, 70_000, hub.MaxPayload} {
		for _, kind := range []hub.PayloadKind{hub.Text, hub.Binary} {
			m := hub.Message{ID: "m", Kind: kind, Payload: bytes.Repeat([]byte("x"), n)}
			b := framed.Encode(&m, hub.Route{Kind: hub.RouteUser})
			var got struct{ Data string }
			if err := json.Unmarshal([]byte(body(t, b)), &got); err != nil || len(got.Data) < n {
				t.Errorf("%d bytes: %d came, %v", n, len(got.Data), err)
			}
		}
	}
}

func TestGreetingTellsWhoTheClientIs(t *testing.T) {
	info := hub.Info{Identity: hub.Identity{ID: "h.c", User: `an"n`}, Hub: "h"}
	got := body(t, framed.AppendGreeting(nil, info, ""))
	if want := `{"type":"connected","connectionId":"h.c","user":"an\"n","hub":"h"}`; got != want {
		t.Errorf("got %s", got)
	}
	info.User = ""
	got = body(t, framed.AppendGreeting([]byte{}, info, ""))
	if want := `{"type":"connected","connectionId":"h.c","hub":"h"}`; got != want {
		t.Errorf("anonymous: got %s", got)
	}
}

func TestRoutesThatLookDifferentAreEncodedApart(t *testing.T) {
	p := framed
	m := &hub.Message{ID: "m", Kind: hub.Text}
	seen := map[string]hub.Route{}
	for _, r := range []hub.Route{
		{Kind: hub.RouteConnection},
		{Kind: hub.RouteUser},
		{Kind: hub.RouteGroup, Group: "a"},
		{Kind: hub.RouteGroup, Group: "b"},
		{Kind: hub.RouteEveryone},
	} {
		b := string(p.Encode(m, p.RouteKey(r)))
		if other, ok := seen[b]; ok {
			t.Errorf("%+v looks like %+v", r, other)
		}
		seen[b] = r
	}
}

// Whatever a message holds, its envelope is JSON that a client reads back.
func FuzzEnvelopeIsReadBack(f *testing.F) {
	f.Add("id", "event", "group", "name", "value", []byte("text"), byte(1))
	f.Add("", "\"", "\\", "\x00", "é\xff", []byte("\xf0\x9f"), byte(3))
	f.Fuzz(func(t *testing.T, id, event, group, name, value string, payload []byte, kind byte) {
		m := hub.Message{
			ID: id, Event: event, Kind: hub.Text + hub.PayloadKind(kind%3), Payload: payload,
			Metadata: map[string]string{name: value},
			Sender:   hub.Sender{Connection: hub.ConnectionID(id), User: group},
		}
		if m.Kind == hub.JSON && !json.Valid(payload) {
			return // the control API has refused it
		}
		route := hub.Route{Kind: hub.RouteGroup, Group: group}
		text := body(t, framed.Encode(&m, route))
		if !utf8.ValidString(text) && m.Kind != hub.JSON {
			t.Fatalf("not UTF-8: %q", text)
		}
		var got struct {
			ID, Event, Group, DataType string
			Data                       json.RawMessage
			Metadata                   map[string]string
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		// Bytes that are not UTF-8 come back as U+FFFD.
		clean := func(s string) string { return strings.ToValidUTF8(fix(s), "") }
		want := [4]string{clean(id), clean(event), clean(group), clean(value)}
		if has := [4]string{got.ID, got.Event, got.Group, got.Metadata[clean(name)]}; has != want {
			t.Fatalf("got %q, want %q", has, want)
		}
		var data string
		switch m.Kind {
		case hub.JSON:
			data = string(got.Data)
		default:
			if err := json.Unmarshal(got.Data, &data); err != nil {
				t.Fatal(err)
			}
		}
		switch {
		case m.Kind == hub.Text && data != clean(string(payload)),
			m.Kind == hub.Binary && data != base64.StdEncoding.EncodeToString(payload),
			m.Kind == hub.JSON && data != strings.TrimSpace(string(payload)):
			t.Fatalf("kind %d: data %q of %q", m.Kind, data, payload)
		}
	})
}

// fix replaces each byte that is not UTF-8 by U+FFFD.
func fix(s string) string { return string([]rune(s)) }
