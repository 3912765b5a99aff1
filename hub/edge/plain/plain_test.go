package plain_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/plain"
)

func TestEachKindHasItsFrame(t *testing.T) {
	for _, tc := range []struct {
		name    string
		kind    hub.PayloadKind
		payload string
		want    string
	}{
		{"text", hub.Text, "Hello", "\x81\x05Hello"},
		{"JSON byte for byte", hub.JSON, `{"a": 1.0}`, "\x81\x0a" + `{"a": 1.0}`},
		{"binary", hub.Binary, "\x00\xff", "\x82\x02\x00\xff"},
		{"protobuf", hub.Protobuf, "\x00\xff", "\x82\x02\x00\xff"},
		{"empty", hub.Text, "", "\x81\x00"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &hub.Message{Kind: tc.kind, Payload: []byte(tc.payload)}
			got := framing.WebSocket(plain.Protocol{}).Encode(m, hub.Route{})
			if !bytes.Equal(got, []byte(tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestAllRoutesShareTheirBytes(t *testing.T) {
	for _, r := range []hub.Route{
		{Kind: hub.RouteConnection}, {Kind: hub.RouteGroup, Group: "g"}, {Kind: hub.RouteEveryone},
	} {
		if got := (plain.Protocol{}).RouteKey(r); got != (hub.Route{}) {
			t.Errorf("%+v has the key %+v", r, got)
		}
	}
}

// A plain client has no acks: a message that no backend gets is counted, and the connection stays.
func TestMessageWithoutASubscriberIsCounted(t *testing.T) {
	config := hub.DefaultConfig()
	config.ID = hub.NewID()
	h, err := hub.New(config)
	if err != nil {
		t.Fatal(err)
	}
	c, err := h.Attach(t.Context(), hub.Admission{
		Namespace: hub.DefaultNamespace, Protocol: framing.WebSocket(plain.Protocol{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	err = plain.Protocol{}.Receive(c, hub.Text, []byte("hi"))
	rejection, ok := errors.AsType[*edge.Rejection](err)
	if !ok || rejection.Reason != edge.RejectNoSubscriber {
		t.Errorf("got %v", err)
	}
}
