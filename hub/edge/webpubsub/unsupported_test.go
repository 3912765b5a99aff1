package webpubsub_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/edge"
)

// withAck gives a command an ackId.
func withAck(command string, id uint64) string {
	return fmt.Sprintf(`{"ackId":%d,`, id) + strings.TrimPrefix(command, "{")
}

func failure(name, message string) string {
	return fmt.Sprintf(`"error":{"name":"%s","message":"%s"}}`, name, message)
}

// Every message that version 1.1 of the official client can write, and the hub does not support, as
// the client writes it.
func TestACommandThatIsNotKnownIsAnsweredAndTheConnectionGoesOn(t *testing.T) {
	const unknown = "type: the hub does not support this command"
	const invoke, stream = "invoke: the hub does not support invocations",
		"stream: the hub does not support streams"
	const noStream = "streamId: the hub does not support streams"
	invoked := func(id string) []string {
		return []string{
			`{"type":"invokeResponse","invocationId":"` + id + `","success":false,` +
				failure("NotSupported", invoke),
		}
	}
	closed := func(name, message string) []string {
		return []string{`{"type":"streamClosed","streamId":"s",` + failure(name, message)}
	}
	long := strings.Repeat("i", 129)
	for name, tc := range map[string]struct {
		sent string
		want []string // besides the ack
		ack  refusalOf
	}{
		"invoke": {
			`{"type":"invoke","invocationId":"1","target":"event","event":"e",` +
				`"dataType":"text","data":"q"}`,
			invoked("1"),
			refusalOf{"NotSupported", invoke},
		},
		"invoke, id escaped": {
			`{"type":"invoke","invocationId":"\u0041\"\n"}`, invoked(`A\"\n`), refusalOf{
				"NotSupported", invoke,
			},
		},
		"invoke, longest id": {
			`{"type":"invoke","invocationId":"` + long[1:] + `"}`, invoked(long[1:]), refusalOf{
				"NotSupported", invoke,
			},
		},
		"invoke, id too long": {
			`{"type":"invoke","invocationId":"` + long + `"}`, nil, refusalOf{
				"NotSupported", invoke,
			},
		},
		"invoke, no id": {
			`{"type":"invoke","event":"e"}`, nil, refusalOf{"NotSupported", invoke},
		},
		"invoke, id a number": {
			`{"type":"invoke","invocationId":1}`, nil, refusalOf{"NotSupported", invoke},
		},
		"invoke, lone surrogate": {
			`{"type":"invoke","invocationId":"\ud800"}`, nil, refusalOf{"NotSupported", invoke},
		},
		"answer to an invocation": {
			`{"type":"invokeResponse","invocationId":"1","success":true,` +
				`"dataType":"text","data":""}`,
			nil,
			refusalOf{"NotSupported", unknown},
		},
		"cancelled invocation": {
			`{"type":"cancelInvocation","invocationId":"1"}`, nil, refusalOf{
				"NotSupported", unknown,
			},
		},
		"start of a stream": {
			`{"type":"sendToGroup","group":"g","noEcho":false,` +
				`"stream":{"idleTimeoutMs":1,"streamId":"s"}}`,
			closed("NotSupported", stream),
			refusalOf{"NotSupported", stream},
		},
		"start with data": {
			`{"type":"sendToGroup","group":"g","data":1,` +
				`"stream":{"x":{"streamId":"no"},"streamId":"s"}}`,
			closed("NotSupported", stream),
			refusalOf{"NotSupported", stream},
		},
		"start, stream a string": {
			`{"type":"sendToGroup","group":"g","stream":"s"}`, nil, refusalOf{
				"NotSupported", stream,
			},
		},
		"start, no id": {
			`{"type":"sendToGroup","group":"g","stream":{}}`, nil, refusalOf{
				"NotSupported", stream,
			},
		},
		"data of a stream": {
			`{"type":"streamData","streamId":"s","streamSequenceId":1,` +
				`"dataType":"text","data":"x"}`,
			closed("StreamNotFound", noStream),
			refusalOf{"StreamNotFound", noStream},
		},
		"life of a stream": {
			`{"type":"streamData","streamId":"s"}`, closed("StreamNotFound", noStream), refusalOf{
				"StreamNotFound", noStream,
			},
		},
		"end of a stream": {
			`{"type":"streamEnd","streamId":"s","error":{"message":"m"}}`,
			closed("StreamNotFound", noStream),
			refusalOf{"StreamNotFound", noStream},
		},
		"end of no stream": {
			`{"type":"streamEnd"}`, nil, refusalOf{"StreamNotFound", noStream},
		},
		"state of a group": {
			`{"type":"setGroupState","group":"g","state":{"k":"v"}}`, nil, refusalOf{
				"NotSupported", unknown,
			},
		},
		"watch a group": {
			`{"type":"subscribeGroupState","group":"g"}`, nil, refusalOf{"NotSupported", unknown},
		},
		"watch a group no more": {
			`{"type":"unsubscribeGroupState","group":"g"}`, nil, refusalOf{"NotSupported", unknown},
		},
		"unknown": {
			`{"type":"unknown","x":1}`, nil, refusalOf{"NotSupported", unknown},
		},
		"empty":           {`{"type":""}`, nil, refusalOf{"NotSupported", unknown}},
		"of another case": {`{"type":"Ping"}`, nil, refusalOf{"NotSupported", unknown}},
		"confirmation, not numbered": {
			`{"type":"sequenceAck","sequenceId":0}`, nil, refusalOf{"NotSupported", unknown},
		},
	} {
		t.Run(name, func(t *testing.T) {
			goesOn(t, tc.sent, tc.want, tc.ack, edge.RejectUnsupported)
		})
	}
}

// refusalOf is the error in an ack.
type refusalOf struct{ name, message string }

// goesOn sends a command without and with an ackId, and holds the answers, the count, and that the
// connection is as it was.
func goesOn(t *testing.T, sent string, want []string, ack refusalOf, reason edge.RejectReason) {
	t.Helper()
	b := newBed(t)
	c := b.connect(t, b.json(), "ann")
	c.do(`{"type":"joinGroup","group":"g","ackId":1}`)
	if diff := cmp.Diff(want, c.do(sent)); diff != "" {
		t.Error(diff)
	}
	asked := slices.Concat(want, []string{refused(7, ack.name, ack.message)})
	for range 2 { // a command that failed is not remembered
		if diff := cmp.Diff(asked, c.do(withAck(sent, 7))); diff != "" {
			t.Error(diff)
		}
	}
	if diff := cmp.Diff([]edge.RejectReason{reason, reason, reason}, b.rejected); diff != "" {
		t.Error(diff)
	}
	diff := cmp.Diff([]string{acked(7)}, c.do(`{"type":"leaveGroup","group":"g","ackId":7}`))
	if diff != "" {
		t.Error(diff)
	}
	if len(b.events.list) > 0 {
		t.Errorf("emitted %v", b.events.list)
	}
}

// A member that can't be used costs the command, not the connection.
func TestACommandWithAWrongMemberIsRefusedAndTheConnectionGoesOn(t *testing.T) {
	send := func(rest string) string { return `{"type":"sendToGroup","group":"g",` + rest + `}` }
	for name, tc := range map[string]struct{ sent, message string }{
		"no group": {`{"type":"joinGroup"}`, "group: want a string"},
		"group a number": {
			`{"type":"leaveGroup","group":1}`, "group: want a string",
		},
		"no group to send to": {
			`{"type":"sendToGroup","data":1}`, "group: want a string",
		},
		"no event":      {`{"type":"event","data":1}`, "event: want a string"},
		"no data":       {`{"type":"event","event":"e"}`, "data: is missing"},
		"no data, json": {send(`"dataType":"json"`), "data: is missing"},
		"no data, text": {send(`"dataType":"text"`), "data: want a string"},
		"text a number": {
			send(`"dataType":"text","data":1`), "data: want a string",
		},
		"text null": {
			send(`"dataType":"text","data":null`), "data: want a string",
		},
		"binary a number": {
			send(`"dataType":"binary","data":1`), "data: want a string",
		},
		"not base64": {
			send(`"dataType":"binary","data":"not base64!"`), "data: want base64",
		},
		"base64 not padded": {
			send(`"dataType":"protobuf","data":"AAH+/w"`), "data: want base64",
		},
		"dataType a number": {
			send(`"dataType":42,"data":"hi"`), "dataType: want a string",
		},
		"unknown dataType": {
			send(`"dataType":"xml","data":"hi"`), "dataType: want json, text, binary or protobuf",
		},
		"noEcho a string": {
			send(`"data":1,"noEcho":"true"`), "noEcho: want true or false",
		},
		"noEcho a number": {
			send(`"data":1,"noEcho":1`), "noEcho: want true or false",
		},
		"ttl negative": {
			send(`"data":1,"ttlSeconds":-1`),
			"ttlSeconds: want a number from 0 to 2^64-1, in digits",
		},
		"ttl a string": {
			send(`"data":1,"ttlSeconds":"30"`),
			"ttlSeconds: want a number from 0 to 2^64-1, in digits",
		},
		"metadata an array": {
			send(`"data":1,"metadata":[]`), "metadata: want an object of strings",
		},
		"metadata of a number": {
			send(`"data":1,"metadata":{"k":1}`), "metadata: want an object of strings",
		},
		"metadata twice": {
			send(`"data":1,"metadata":{"k":"1","k":"2"}`), "metadata: a name appears twice",
		},
		"text, lone surrogate": {
			send(`"dataType":"text","data":"\ud83d"`), "data: want a string",
		},
		"group, lone surrogate": {
			`{"type":"joinGroup","group":"a\ude42\ud83d"}`, "group: want a string",
		},
		"event, lone surrogate": {
			`{"type":"event","event":"\udfff","data":1}`, "event: want a string",
		},
		"metadata's name, lone surrogate": {
			send(`"data":1,"metadata":{"\ud83d":"v"}`), "metadata: want an object of strings",
		},
		"metadata's value, lone surrogate": {
			send(`"data":1,"metadata":{"k":"\ud83d\ud83d"}`), "metadata: want an object of strings",
		},
		"dataType, lone surrogate": {
			send(`"dataType":"\ud83d","data":"hi"`), "dataType: want a string",
		},
	} {
		t.Run(name, func(t *testing.T) {
			goesOn(t, tc.sent, nil, refusalOf{"BadRequest", tc.message}, edge.RejectInvalid)
		})
	}
}

// The answers wait for a client that does not read, like all others, and not without limit.
func TestAnswersToUnknownCommandsAreBounded(t *testing.T) {
	b := newBed(t)
	c := b.connect(t, b.json(), "ann")
	got := c.do(`{"type":"invoke","invocationId":"` + strings.Repeat(`\"`, 128) + `"}`)
	if len(got) != 1 || len(got[0]) > 1024 {
		t.Errorf("got %q", got)
	}
}
