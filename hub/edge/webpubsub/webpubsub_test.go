package webpubsub_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/webpubsub"
	"github.com/connhub/connhub/internal/names"
)

// text returns the payload of b, which must be exactly one text frame.
func text(t interface {
	Helper()
	Fatalf(string, ...any)
}, b []byte,
) string {
	t.Helper()
	h, ok := frame.ParseHeader(b)
	if !ok || h.Opcode != frame.Text || !h.Final || h.Size != uint64(len(b)) {
		t.Fatalf("not one text frame: %q", b[:min(len(b), 40)])
	}
	return string(b[h.Start:])
}

// both returns a message as each subprotocol writes it; its sequence id is 7.
func both(t interface {
	Helper()
	Fatalf(string, ...any)
}, m *hub.Message, r hub.Route,
) (plain, reliable string) {
	t.Helper()
	p := framing.WebSocket(webpubsub.JSON{})
	numbered := framing.WebSocket(webpubsub.ReliableJSON{}).(hub.Numbered)
	shared := numbered.Encode(m, numbered.RouteKey(r))
	return text(t, p.Encode(m, p.RouteKey(r))), text(t,
		append(numbered.AppendPrefix(nil, 7, shared), shared...))
}

func TestMessageShowsWhereItIsFrom(t *testing.T) {
	client := hub.Sender{Connection: "h.c", User: "ann"}
	group := hub.Route{Kind: hub.RouteGroup, Group: `g"1`}
	for name, tc := range map[string]struct {
		message hub.Message
		route   hub.Route
		want    string
	}{
		"a backend's, to a group": {
			hub.Message{Kind: hub.Text, Payload: []byte("hi")},
			group,
			`"type":"message","from":"group","group":"g\"1","dataType":"text","data":"hi"}`,
		},
		"a client's, to a group": {
			hub.Message{
				Kind: hub.Text, Payload: []byte("hi"), Sender: client,
			},
			group,
			`"type":"message","from":"group","group":"g\"1","fromUserId":"ann",` +
				`"dataType":"text","data":"hi"}`,
		},
		"an anonymous client's": {
			hub.Message{Kind: hub.Text, Sender: hub.Sender{Connection: "h.c"}},
			group,
			`"type":"message","from":"group","group":"g\"1","dataType":"text","data":""}`,
		},
		"to a connection": {
			hub.Message{Kind: hub.JSON, Payload: []byte(`{"a": 1.0}`)},
			hub.Route{Kind: hub.RouteConnection},
			`"type":"message","from":"server","dataType":"json","data":{"a": 1.0}}`,
		},
		"to a user": {
			hub.Message{Kind: hub.Binary, Payload: []byte{0, 1, 0xfe, 0xff}},
			hub.Route{Kind: hub.RouteUser},
			`"type":"message","from":"server","dataType":"binary","data":"AAH+/w=="}`,
		},
		"to everyone": {
			hub.Message{Kind: hub.Text, Payload: []byte("\x00<é🙂")},
			hub.Route{Kind: hub.RouteEveryone},
			`"type":"message","from":"server","dataType":"text","data":"\u0000<é🙂"}`,
		},
		"with metadata": {
			hub.Message{
				Kind: hub.JSON, Payload: []byte("0"),
				Metadata: map[string]string{"b": "2", "a": "1"},
			},
			hub.Route{Kind: hub.RouteUser},
			`"type":"message","from":"server","metadata":{"a":"1","b":"2"},` +
				`"dataType":"json","data":0}`,
		},
		"event, id and trace unshown": {
			hub.Message{
				ID: "m", Event: "e", TraceParent: "t", Kind: hub.JSON, Payload: []byte("0"),
			},
			hub.Route{Kind: hub.RouteUser},
			`"type":"message","from":"server","dataType":"json","data":0}`,
		},
		"a sender has no group to say": {
			hub.Message{Kind: hub.JSON, Payload: []byte("0"), Sender: client},
			hub.Route{Kind: hub.RouteUser},
			`"type":"message","from":"server","dataType":"json","data":0}`,
		},
	} {
		plain, reliable := both(t, &tc.message, tc.route)
		if diff := cmp.Diff("{"+tc.want, plain); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if diff := cmp.Diff(`{"sequenceId":7,`+tc.want, reliable); diff != "" {
			t.Errorf("%s, reliable: %s", name, diff)
		}
	}
}

func TestRoutesThatLookTheSameShareTheirBytes(t *testing.T) {
	p := webpubsub.ReliableJSON{}
	for _, k := range []hub.RouteKind{hub.RouteConnection, hub.RouteUser, hub.RouteEveryone} {
		if got := p.RouteKey(hub.Route{Kind: k}); got != (hub.Route{}) {
			t.Errorf("%v: %v", k, got)
		}
	}
	group := hub.Route{Kind: hub.RouteGroup, Group: "g"}
	if got := p.RouteKey(group); got != group {
		t.Errorf("group: %v", got)
	}
}

func TestGreetingAndGoodbye(t *testing.T) {
	info := hub.Info{Identity: hub.Identity{ID: "h.c", User: `an"n`}}
	p := framing.WebSocket(webpubsub.JSON{})
	reliable := framing.WebSocket(webpubsub.ReliableJSON{})
	how := cause.CloseStatus{Cause: cause.Backend, Code: 4000, Reason: `you "know"`}
	for _, tc := range []struct{ got, want string }{
		{
			text(t, p.AppendGreeting(nil, info, "")),
			`{"type":"system","event":"connected","userId":"an\"n","connectionId":"h.c"}`,
		},
		{
			text(t, p.AppendGreeting(nil, hub.Info{}, "")),
			`{"type":"system","event":"connected","userId":"","connectionId":""}`,
		},
		{
			text(t, reliable.AppendGreeting(nil, info, "t")),
			`{"type":"system","event":"connected","userId":"an\"n","connectionId":"h.c",` +
				`"reconnectionToken":"t"}`,
		},
		{
			text(t, reliable.AppendGoodbye(nil, how)),
			`{"type":"system","event":"disconnected","message":"you \"know\""}`,
		},
	} {
		if diff := cmp.Diff(tc.want, tc.got); diff != "" {
			t.Error(diff)
		}
	}
	if got := string(reliable.AppendGreeting([]byte("before"), info, "t")[:6]); got != "before" {
		t.Errorf("appended to %q", got)
	}
}

func TestClientThatShowsAConnectionWantsItBack(t *testing.T) {
	for query, want := range map[string]bool{
		"": false, "access_token=x&user=y": false, "awps_reconnection_token=t": false,
		"awps_connection_id=c&awps_reconnection_token=t": true, "awps_connection_id=c": true,
		"awps_connection_id=": true,
	} {
		values, err := url.ParseQuery(query)
		if err != nil {
			t.Fatal(err)
		}
		id, token, ok := webpubsub.ReliableJSON{}.Resumes(values)
		if ok != want ||
			ok &&
				(id != values.Get("awps_connection_id") ||
					token != values.Get("awps_reconnection_token")) {
			t.Errorf("%q: %q, %q, %t", query, id, token, ok)
		}
	}
}

// seen is a message as a client decodes it.
type seen struct {
	SequenceID uint64            `json:"sequenceId"`
	Type       string            `json:"type"`
	From       string            `json:"from"`
	Group      string            `json:"group"`
	FromUserID string            `json:"fromUserId"`
	Metadata   map[string]string `json:"metadata"`
	DataType   string            `json:"dataType"`
	Data       json.RawMessage   `json:"data"`
}

// payload returns the payload that the client hands to its application.
func (s *seen) payload(t *rapid.T) []byte {
	if s.DataType == "json" {
		return s.Data
	}
	var text string
	if err := json.Unmarshal(s.Data, &text); err != nil {
		t.Fatal(err)
	}
	if s.DataType == "text" {
		return []byte(text)
	}
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var dataTypes = map[hub.PayloadKind]string{
	hub.Text: "text", hub.JSON: "json", hub.Binary: "binary", hub.Protobuf: "protobuf",
}

// anyMessage draws a message as backends and clients may send it.
func anyMessage(t *rapid.T) *hub.Message {
	m := &hub.Message{
		Kind: rapid.SampledFrom([]hub.PayloadKind{
			hub.Text, hub.JSON, hub.Binary, hub.Protobuf,
		}).Draw(t, "kind"),
		Sender: hub.Sender{User: rapid.String().Draw(t, "user")},
	}
	if all := rapid.MapOfN(rapid.String(), rapid.String(), 0, 3).Draw(t, "metadata"); len(all) > 0 {
		m.Metadata = all
	}
	switch m.Kind {
	case hub.JSON:
		m.Payload = []byte(rapid.SampledFrom([]string{
			`0`, `-1.50e+3`, `"\ud83d\ude42 é"`, `{"b":[],"a":{"a" : null}}`, `[ true ,false]`,
		}).Draw(t, "json"))
	case hub.Text:
		m.Payload = []byte(rapid.StringN(-1, 300, -1).Draw(t, "text"))
	default:
		m.Payload = rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "binary")
	}
	// another length of header
	size := rapid.SampledFrom([]int{0, 0, 0, 70_000}).Draw(t, "more")
	if size > 0 && m.Kind != hub.JSON {
		m.Payload = append(m.Payload, bytes.Repeat([]byte("x"), size)...)
	}
	return m
}

func TestEveryMessageIsDecodedAsItWasSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMessage(t)
		want := seen{
			Type: "message", From: "server", DataType: dataTypes[m.Kind], Metadata: m.Metadata,
		}
		r := hub.Route{Kind: hub.RouteKind(rapid.IntRange(1, 4).Draw(t, "route"))}
		if r.Kind == hub.RouteGroup {
			r.Group = rapid.String().Draw(t, "group")
			want.From, want.Group, want.FromUserID = "group", r.Group, m.Sender.User
		}
		plain, reliable := both(t, m, r)
		for sequence, encoded := range map[uint64]string{0: plain, 7: reliable} {
			var got seen
			if err := json.Unmarshal([]byte(encoded), &got); err != nil {
				t.Fatal(err)
			}
			if payload := got.payload(t); !bytes.Equal(payload, m.Payload) {
				t.Errorf("payload %q, want %q", payload, m.Payload)
			}
			want.SequenceID, got.Data = sequence, nil
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
	})
}

// A message that an SDK encodes, by a JSON encoder of its own, comes out as the same message.
func TestEveryCommandIsTakenAsItWasMeant(t *testing.T) {
	b := newBed(t)
	rapid.Check(t, func(rt *rapid.T) {
		m := anyMessage(rt)
		maps.DeleteFunc(m.Metadata, func(name, _ string) bool { return names.Check(name) != nil })
		command := map[string]any{
			"type": "sendToGroup", "group": "g", "dataType": dataTypes[m.Kind],
			"metadata": m.Metadata,
		}
		switch m.Kind {
		case hub.JSON:
			command["data"] = json.RawMessage(m.Payload)
		case hub.Text:
			command["data"] = string(m.Payload)
		default:
			command["data"] = m.Payload
		}
		noEcho := rapid.Bool().Draw(rt, "no echo")
		command["noEcho"] = noEcho
		var encoded bytes.Buffer
		e := json.NewEncoder(&encoded)
		e.SetEscapeHTML(rapid.Bool().Draw(rt, "escaped"))
		if err := e.Encode(command); err != nil {
			rt.Fatal(err)
		}
		var watch watcher
		p := webpubsub.JSON{Publisher: &watch}
		c := b.connect(t, p, "ann")
		defer c.Close(cause.Client.CloseStatus())
		if err := p.Receive(c.Connection, hub.Text, encoded.Bytes()); err != nil {
			rt.Fatalf("%s: %v", encoded.Bytes(), err)
		}
		want := hub.Send{
			Message: &hub.Message{
				Namespace: hub.DefaultNamespace, Kind: m.Kind, Metadata: m.Metadata,
				Sender: hub.Sender{Connection: c.ID(), User: "ann"},
			},
			Target: hub.Target{Groups: []string{"g"}},
		}
		if noEcho {
			want.Target.Except.Connections = []string{string(c.ID())}
		}
		sent := watch.last
		payload := sent.Message.Payload
		if m.Kind == hub.JSON { // json.Encoder compacts
			payload, m.Payload = compact(rt, payload), compact(rt, m.Payload)
		}
		if !bytes.Equal(payload, m.Payload) {
			rt.Errorf("payload %q, want %q", payload, m.Payload)
		}
		sent.Message.Payload = nil
		if diff := cmp.Diff(want, *sent, cmpopts.EquateEmpty()); diff != "" {
			rt.Error(diff)
		}
	})
}

func compact(t *rapid.T, value []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, value); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
