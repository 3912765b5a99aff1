package webpubsub_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/webpubsub"
	"github.com/connhub/connhub/hub/permission"
)

const (
	success     = `{"type":"ack","ackId":%d,"success":true}`
	isDuplicate = `{"type":"ack","ackId":%d,"success":false,` +
		`"error":{"name":"Duplicate","message":"a command with this ackId has succeeded before"}}`
)

func acked(id uint64) string { return fmt.Sprintf(success, id) }
func refused(id uint64, name, message string) string {
	return fmt.Sprintf(
		`{"type":"ack","ackId":%d,"success":false,"error":{"name":"%s","message":"%s"}}`, id, name,
		message,
	)
}

// Each command and its answer, in a client that is in the group g and may do all.
func TestEachCommandHasItsAnswer(t *testing.T) {
	long := strings.Repeat("x", hub.MaxName+1)
	const badGroup, badEvent = "group: want a name of 1 to 1024 bytes without control characters",
		"event: want a name of 1 to 1024 bytes without control characters"
	message := func(rest string) string {
		return `{"type":"message","from":"group","group":"g","fromUserId":"ann",` + rest + `}`
	}
	for name, tc := range map[string]struct {
		sent string
		want []string
	}{
		"ping": {`{"type":"ping"}`, []string{`{"type":"pong"}`}},
		"ping, with what is unknown": {
			` { "type" : "ping" , "x":{"type":["}\\\"{"]},"ackId":7,"n":-1.5e3 } `, []string{
				`{"type":"pong"}`,
			},
		},
		"ping, escaped": {`{"\u0074ype":"\u0070ing"}`, []string{`{"type":"pong"}`}},
		"join": {
			`{"type":"joinGroup","group":"h","ackId":1}`, []string{acked(1)},
		},
		"join again": {
			`{"type":"joinGroup","group":"g","ackId":1}`, []string{acked(1)},
		},
		"join, silently":   {`{"type":"joinGroup","group":"h"}`, nil},
		"join, ackId null": {`{"type":"joinGroup","group":"h","ackId":null}`, nil},
		"join, ackId 0": {
			`{"type":"joinGroup","group":"h","ackId":0}`, []string{acked(0)},
		},
		"join, largest ackId": {
			`{"type":"joinGroup","group":"h","ackId":18446744073709551615}`, []string{
				acked(1<<64 - 1),
			},
		},
		"join, name empty": {
			`{"type":"joinGroup","group":"","ackId":1}`, []string{
				refused(1, "BadRequest", badGroup),
			},
		},
		"join, name too long": {
			`{"type":"joinGroup","group":"` + long + `","ackId":1}`, []string{
				refused(1, "BadRequest", badGroup),
			},
		},
		"join, control character": {
			`{"type":"joinGroup","group":"a\u0000b","ackId":1}`, []string{
				refused(1, "BadRequest", badGroup),
			},
		},
		"join, name silently wrong": {`{"type":"joinGroup","group":""}`, nil},
		"leave": {
			`{"type":"leaveGroup","group":"g","ackId":2}`, []string{acked(2)},
		},
		"leave a group it is not in": {
			`{"type":"leaveGroup","group":"h","ackId":2}`, []string{acked(2)},
		},
		"send text": {
			`{"type":"sendToGroup","group":"g","ackId":3,` +
				`"dataType":"text","data":"hi\n\"é\ud83d\ude42"}`,
			[]string{message(`"dataType":"text","data":"hi\n\"é🙂"`), acked(3)},
		},
		"send json": {
			`{"type":"sendToGroup","group":"g",` +
				`"dataType":"json","data": {"a" :[1.0,"\u00e9",null]} }`,
			[]string{message(`"dataType":"json","data":{"a" :[1.0,"\u00e9",null]}`)},
		},
		"send null": {
			`{"type":"sendToGroup","group":"g","data":null}`, []string{
				message(`"dataType":"json","data":null`),
			},
		},
		"send a string as json": {
			`{"data":"hi","group":"g","type":"sendToGroup"}`, []string{
				message(`"dataType":"json","data":"hi"`),
			},
		},
		"send binary": {
			`{"type":"sendToGroup","group":"g","dataType":"binary","data":"AAH+/w=="}`, []string{
				message(`"dataType":"binary","data":"AAH+/w=="`),
			},
		},
		"send protobuf": {
			`{"type":"sendToGroup","group":"g","dataType":"protobuf","data":"AAH+"}`, []string{
				message(`"dataType":"protobuf","data":"AAH+"`),
			},
		},
		"send nothing": {
			`{"type":"sendToGroup","group":"g","dataType":"text","data":""}`, []string{
				message(`"dataType":"text","data":""`),
			},
		},
		"send metadata alone": {
			`{"type":"sendToGroup","group":"g","metadata":{"k":"v"}}`, []string{
				message(`"metadata":{"k":"v"},"dataType":"text","data":""`),
			},
		},
		"send with everything": {
			`{"type":"sendToGroup","group":"g","ackId":3,"noEcho":false,"ttlSeconds":300,` +
				`"metadata":{"b":"2","a":"\n"},"data":1}`,
			[]string{message(`"metadata":{"a":"\n","b":"2"},"dataType":"json","data":1`), acked(3)},
		},
		"send without echo": {
			`{"type":"sendToGroup","group":"g","ackId":3,"noEcho":true,"data":1}`, []string{
				acked(3),
			},
		},
		"send to nobody": {
			`{"type":"sendToGroup","group":"h","ackId":3,"data":1}`, []string{acked(3)},
		},
		"send, name too long": {
			`{"type":"sendToGroup","group":"` + long + `","ackId":3,"data":1}`, []string{
				refused(3, "BadRequest", badGroup),
			},
		},
		"send, ttl too long": {
			`{"type":"sendToGroup","group":"g","ackId":3,"ttlSeconds":86401,"data":1}`, []string{
				refused(3, "BadRequest", "ttlSeconds: want 86400 at most"),
			},
		},
		"send, metadata too large": {
			`{"type":"sendToGroup","group":"g","ackId":3,"metadata":{"k":"` +
				strings.Repeat("v", 8<<10) + `"},"data":1}`, []string{
				refused(3, "BadRequest", "metadata: want 8 KiB at most"),
			},
		},
		"send, metadata's name": {
			`{"type":"sendToGroup","group":"g","ackId":3,"metadata":{"":"v"},"data":1}`, []string{
				refused(3, "BadRequest",
					"metadata: want a name of 1 to 1024 bytes without control characters"),
			},
		},
		"event": {
			`{"type":"event","event":"e","ackId":4,"dataType":"text","data":"hi"}`, []string{
				acked(4),
			},
		},
		"event, silently": {`{"type":"event","event":"e","data":{}}`, nil},
		"event, name empty": {
			`{"type":"event","event":"","ackId":4,"data":1}`, []string{
				refused(4, "BadRequest", badEvent),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			c := b.connect(t, b.json(), "ann")
			c.do(`{"type":"joinGroup","group":"g"}`)
			if diff := cmp.Diff(tc.want, sortAcks(c.do(tc.sent))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// sortAcks puts acks behind messages: acks go in front of waiting messages, and no rule says which
// of them is there first.
func sortAcks(all []string) []string {
	var messages, acks []string
	for _, m := range all {
		if strings.HasPrefix(m, `{"type":"ack"`) {
			acks = append(acks, m)
		} else {
			messages = append(messages, m)
		}
	}
	return append(messages, acks...)
}

func TestWhatIsNotAMessageOfTheProtocolCloses(t *testing.T) {
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	for name, tc := range map[string]struct{ sent, reason string }{
		"nothing":           {``, "not valid JSON"},
		"blanks":            {` `, "not valid JSON"},
		"not JSON":          {`hello`, "not valid JSON"},
		"truncated":         {`{"type":"ping"`, "not valid JSON"},
		"two":               {`{"type":"ping"}{"type":"ping"}`, "not valid JSON"},
		"nested too deep":   {`{"type":"ping","x":` + deep + `}`, "not valid JSON"},
		"array":             {`["joinGroup"]`, "not a JSON object"},
		"string":            {` "ping"`, "not a JSON object"},
		"null":              {`null`, "not a JSON object"},
		"no type":           {`{}`, "type: want a string"},
		"type null":         {`{"type":null}`, "type: want a string"},
		"type a number":     {`{"type":42}`, "type: want a string"},
		"type in capitals":  {`{"TYPE":"ping"}`, "type: want a string"},
		"twice":             {`{"type":"ping","type":"ping"}`, "type: appears twice"},
		"twice, escaped":    {`{"type":"ping","\u0074ype":"ping"}`, "type: appears twice"},
		"twice, first null": {`{"type":null,"type":"ping"}`, "type: appears twice"},
		"ackId a string": {
			`{"type":"joinGroup","group":"g","ackId":"1"}`,
			"ackId: want a number from 0 to 2^64-1, in digits",
		},
		"ackId true": {
			`{"type":"joinGroup","group":"g","ackId":true}`,
			"ackId: want a number from 0 to 2^64-1, in digits",
		},
		"ackId negative": {
			`{"type":"joinGroup","group":"g","ackId":-1}`,
			"ackId: want a number from 0 to 2^64-1, in digits",
		},
		"ackId an object": {
			`{"type":"joinGroup","group":"g","ackId":{}}`,
			"ackId: want a number from 0 to 2^64-1, in digits",
		},
		"ackId a fraction": {
			`{"type":"joinGroup","group":"g","ackId":1.5}`,
			"ackId: want a number from 0 to 2^64-1, in digits",
		},
		"ackId 2^64": {
			`{"type":"joinGroup","group":"g","ackId":18446744073709551616}`,
			"ackId: want a number from 0 to 2^64-1, in digits",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			c := b.connect(t, b.json(), "ann")
			c.do(`{"type":"joinGroup","group":"g"}`)
			got, how := c.say(tc.sent)
			if diff := cmp.Diff(
				cause.CloseStatus{Cause: cause.Protocol, Code: 1007, Reason: tc.reason}, how,
			); diff != "" || got != nil {
				t.Errorf("got %q, %s", got, diff)
			}
		})
	}
}

func TestOtherWaysToBeClosed(t *testing.T) {
	b := newBed(t)
	c := b.connect(t, b.reliable(), "ann")
	for name, tc := range map[string]struct {
		kind hub.PayloadKind
		sent string
		want cause.CloseStatus
	}{
		"binary": {hub.Binary, `{"type":"ping"}`, cause.Unsupported.CloseStatus()},
		"payload too large": {
			hub.Text,
			`{"type":"event","event":"e","dataType":"text","data":"` +
				strings.Repeat("x", hub.MaxPayload+1) + `"}`, edge.TooBig(hub.MaxPayload).Close,
		},
		"forged": {
			hub.Text, `{"type":"sequenceAck","sequenceId":1}`, cause.CloseStatus{
				Cause: cause.PolicyViolation, Code: 1008,
				Reason: "sequenceId: nothing with this id was sent",
			},
		},
		"no sequenceId": {
			hub.Text, `{"type":"sequenceAck"}`, cause.CloseStatus{
				Cause: cause.Protocol, Code: 1007, Reason: "sequenceId: is missing",
			},
		},
		"sequenceId in text": {
			hub.Text, `{"type":"sequenceAck","sequenceId":"1"}`, cause.CloseStatus{
				Cause: cause.Protocol, Code: 1007,
				Reason: "sequenceId: want a number from 0 to 2^64-1, in digits",
			},
		},
	} {
		err := c.protocol.Receive(c.Connection, tc.kind, []byte(tc.sent))
		v, ok := errors.AsType[*edge.Violation](err)
		if !ok {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(tc.want, v.Close); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestPayloadOfTheLargestSizePasses(t *testing.T) {
	b := newBed(t)
	c := b.connect(t, b.reliable(), "ann")
	c.do(`{"type":"event","event":"e","dataType":"text","data":"` +
		strings.Repeat("x", hub.MaxPayload) + `"}`)
	if got := b.events.list; len(got) != 1 || len(got[0].Payload) != hub.MaxPayload {
		t.Errorf("%d events", len(got))
	}
}

func TestEventsGoToTheSinkAsTheyAre(t *testing.T) {
	b := newBed(t)
	c := b.connect(t, b.json(), "")
	c.do(`{"type":"event","event":"a","dataType":"text","data":"t\u0041"}`)
	c.do(`{"type":"event","event":"b","dataType":"json","data":{ "x":1 }}`)
	c.do(`{"type":"event","event":"c","dataType":"binary","data":"AP8="}`)
	want := []hub.ClientEvent{
		{Name: "a", Kind: hub.Text, Payload: []byte("tA")},
		{Name: "b", Kind: hub.JSON, Payload: []byte(`{ "x":1 }`)},
		{Name: "c", Kind: hub.Binary, Payload: []byte{0, 0xff}},
	}
	if diff := cmp.Diff(want, b.events.list); diff != "" {
		t.Error(diff)
	}
}

// The reader may use its buffer again afterwards: that changes nothing.
func TestNothingOfAMessageIsKept(t *testing.T) {
	b := newBed(t)
	c := b.connect(t, b.json(), "ann")
	receive := func(p edge.Protocol, message string) {
		t.Helper()
		buffer := []byte(message)
		if err := p.Receive(c.Connection, hub.Text, buffer); err != nil {
			t.Fatal(err)
		}
		for i := range buffer {
			buffer[i] = '#'
		}
	}
	receive(c.protocol, `{"type":"joinGroup","group":"g"}`)
	if diff := cmp.Diff([]string{"g"}, c.Info().Groups); diff != "" {
		t.Error(diff)
	}
	for dataType, want := range map[string]string{
		"text": "AAAA", "json": `"AAAA"`, "binary": "\x00\x00\x00",
	} {
		b.events.list = nil
		rest := `,"dataType":"` + dataType + `","data":"AAAA","metadata":{"k":"v"}}`
		receive(c.protocol, `{"type":"event","event":"e"`+rest)
		if got := b.events.list[0]; got.Name != "e" || string(got.Payload) != want {
			t.Errorf("%s: event became %+v", dataType, got)
		}
		var sent watcher
		receive(webpubsub.JSON{Publisher: &sent}, `{"type":"sendToGroup","group":"g"`+rest)
		m := sent.last.Message
		if sent.last.Target.Groups[0] != "g" || string(m.Payload) != want ||
			m.Metadata["k"] != "v" {
			t.Errorf("%s: message became %+v", dataType, m)
		}
	}
}

func TestCommandThatSucceededIsNotDoneAgain(t *testing.T) {
	b := newBed(t)
	c := b.connect(t, b.reliable(), "ann")
	other := b.connect(t, b.json(), "bob")
	other.do(`{"type":"joinGroup","group":"g","ackId":5}`)
	message := `{"type":"sendToGroup","group":"g","ackId":5,"data":1}`
	if diff := cmp.Diff([]string{acked(5)}, c.do(message)); diff != "" { // another connection's 5
		t.Error(diff)
	}
	for _, again := range []string{
		message, `{"type":"joinGroup","group":"h","ackId":5}`,
		`{"type":"event","event":"e","data":1,"ackId":5}`,
	} {
		if diff := cmp.Diff([]string{fmt.Sprintf(isDuplicate, 5)}, c.do(again)); diff != "" {
			t.Error(diff)
		}
	}
	if got := other.messages(); len(got) != 1 {
		t.Errorf("the group got %q", got)
	}
	if groups := c.Info().Groups; len(groups) != 0 || len(b.events.list) != 0 {
		t.Errorf("groups %q, events %v", groups, b.events.list)
	}
}

func TestCommandThatFailedMayBeTriedAgain(t *testing.T) {
	b := newBed(t)
	c := b.connectWith(t, b.json(), hub.Admission{})
	c.messages()
	const join, send = `{"type":"joinGroup","group":"g","ackId":1}`,
		`{"type":"sendToGroup","group":"g","ackId":2,"data":1}`
	grant := func(revoked bool) {
		t.Helper()
		var grants []permission.Grant
		for _, action := range []permission.Action{permission.JoinGroup, permission.SendToGroup} {
			grants = append(grants, permission.Grant{
				Permission: permission.Permission{Action: action, Group: "g"}, Revoked: revoked,
			})
		}
		_, err := b.hub.Permit(t.Context(), hub.DefaultNamespace, &hub.Target{Everyone: true},
			grants)
		if err != nil {
			t.Fatal(err)
		}
	}
	const mayNotJoin, mayNotSend = "you may not join or leave this group",
		"you may not send to this group"
	for range 2 {
		if diff := cmp.Diff([]string{refused(1, "Forbidden", mayNotJoin)}, c.do(join)); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{refused(2, "Forbidden", mayNotSend)}, c.do(send)); diff != "" {
			t.Error(diff)
		}
	}
	if got := c.do(`{"type":"sendToGroup","group":"g","data":1}`); got != nil {
		t.Errorf("silent: %q", got)
	}
	grant(false)
	if diff := cmp.Diff([]string{acked(1)}, c.do(join)); diff != "" {
		t.Error(diff)
	}
	b.failed = hub.ErrShuttingDown
	diff := cmp.Diff([]string{refused(2, "InternalServerError", "the hub is shutting down")},
		c.do(send))
	if diff != "" {
		t.Error(diff)
	}
	b.failed = nil
	want := []string{
		`{"type":"message","from":"group","group":"g","dataType":"json","data":1}`, acked(2),
	}
	// anonymous: fromUserId is not there
	if diff := cmp.Diff(want, sortAcks(c.do(send))); diff != "" {
		t.Error(diff)
	}
	grant(true)
	diff = cmp.Diff([]string{refused(9, "Forbidden", mayNotJoin)},
		c.do(`{"type":"leaveGroup","group":"g","ackId":9}`))
	if diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{fmt.Sprintf(isDuplicate, 2)}, c.do(send)); diff != "" {
		t.Error(diff)
	}
}

func TestFaultOfThePublisherIsNoRefusal(t *testing.T) {
	b := newBed(t)
	c := b.connect(t, b.json(), "ann")
	b.failed = errors.New("a fault")
	err := c.protocol.Receive(c.Connection, hub.Text,
		[]byte(`{"type":"sendToGroup","group":"g","ackId":1,"data":1}`))
	if !errors.Is(err, b.failed) || c.messages() != nil {
		t.Errorf("got %v", err)
	}
}

func TestOneGroupTooManyIsRefusedAndNothingElse(t *testing.T) {
	b := newBed(t)
	c := b.connect(t, b.json(), "ann")
	for i := range hub.MaxGroups {
		c.do(fmt.Sprintf(`{"type":"joinGroup","group":"g%d"}`, i))
	}
	want := []string{refused(1, "Forbidden", "a connection may be in 128 groups")}
	if diff := cmp.Diff(want, c.do(`{"type":"joinGroup","group":"g","ackId":1}`)); diff != "" {
		t.Error(diff)
	}
	c.do(`{"type":"leaveGroup","group":"g7"}`)
	diff := cmp.Diff([]string{acked(1)}, c.do(`{"type":"joinGroup","group":"g","ackId":1}`))
	if diff != "" {
		t.Error(diff)
	}
}

func TestMessagesOfOneClientArriveInOrderAndOnlyItselfIsSparedItsEcho(t *testing.T) {
	b := newBed(t)
	sender, same := b.connect(t, b.reliable(), "ann"), b.connect(t, b.reliable(), "ann")
	for _, c := range []*client{sender, same} {
		c.do(`{"type":"joinGroup","group":"g"}`)
	}
	var toSame, toSender []string
	for i := range 200 {
		noEcho := i%3 == 0
		message := fmt.Sprintf(
			`"type":"message","from":"group","group":"g","fromUserId":"ann",`+
				`"dataType":"json","data":%d}`,
			i,
		)
		toSame = append(toSame, fmt.Sprintf(`{"sequenceId":%d,`, len(toSame)+1)+message)
		if !noEcho {
			toSender = append(toSender, fmt.Sprintf(`{"sequenceId":%d,`, len(toSender)+1)+message)
		}
		err := sender.protocol.Receive(sender.Connection, hub.Text,
			fmt.Appendf(nil, `{"type":"sendToGroup","group":"g","noEcho":%t,"data":%d}`, noEcho, i))
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(toSame, same.messages()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(toSender, sender.messages()); diff != "" {
		t.Error(diff)
	}
}

func TestMessageExpiresAfterItsTTL(t *testing.T) {
	b := newBed(t)
	c := b.connect(t, b.json(), "ann")
	for seconds, want := range map[int]time.Duration{0: 0, 1: time.Second, 86400: 24 * time.Hour} {
		var sent watcher
		p := webpubsub.JSON{Publisher: &sent}
		before := time.Now()
		err := p.Receive(c.Connection, hub.Text,
			fmt.Appendf(nil, `{"type":"sendToGroup","group":"g","data":1,"ttlSeconds":%d}`,
				seconds))
		if err != nil {
			t.Fatal(err)
		}
		expires := sent.last.Message.Expires
		switch {
		case want == 0 && !expires.IsZero(), want > 0 &&
			(expires.Before(before.Add(want)) || expires.After(time.Now().Add(want))):
			t.Errorf("%d s: expires %v after %v", seconds, expires, before)
		}
	}
}

// The ack of an event says whether a backend gets it. Without an ackId the client hears nothing of
// it, and an event that no backend got may be tried again.
func TestAnEventWithoutASubscriberIsNoSuccess(t *testing.T) {
	const text = "no backend gets this event: none subscribes to it at this hub, or their " +
		"queues are full"
	for _, reliable := range []bool{false, true} {
		b := newBed(t)
		p := b.json()
		if reliable {
			p = b.reliable()
		}
		c := b.connect(t, p, "ann")
		b.events.deaf = true
		for _, tc := range []struct {
			sent string
			want []string
		}{
			{
				`{"type":"event","event":"e","ackId":1,"data":1}`, []string{
					refused(1, "NoSubscriber", text),
				},
			},
			{`{"type":"event","event":"e","data":1}`, nil},
			{
				`{"type":"event","event":"e","ackId":1,"data":1}`, []string{
					refused(1, "NoSubscriber", text),
				},
			},
		} {
			if diff := cmp.Diff(tc.want, c.do(tc.sent)); diff != "" {
				t.Errorf("reliable %t, %s: %s", reliable, tc.sent, diff)
			}
		}
		if diff := cmp.Diff([]edge.RejectReason{
			edge.RejectNoSubscriber, edge.RejectNoSubscriber, edge.RejectNoSubscriber,
		}, b.rejected); diff != "" {
			t.Error(diff)
		}
		b.events.deaf = false
		diff := cmp.Diff([]string{acked(1)},
			c.do(`{"type":"event","event":"e","ackId":1,"data":1}`))
		if diff != "" || len(b.events.list) != 1 {
			t.Errorf("with a subscriber: %d events, %s", len(b.events.list), diff)
		}
	}
}
