package webpubsub_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/connhub/connhub/hub/cause"
)

// No message of a client causes a panic. Each id in it is answered at most once, and only for a
// command that asks for it. A message that can't be parsed closes the client with a code for
// clients.
func FuzzCommands(f *testing.F) {
	for _, s := range []string{
		`{"type":"ping"}`,
		`{"type":"joinGroup","group":"g","ackId":1}`,
		`{"type":"leaveGroup","group":"g","ackId":2}`,
		`{"type":"sendToGroup","group":"g","ackId":3,"noEcho":true,` +
			`"dataType":"text","data":"a\"\\\\",` +
			`"ttlSeconds":1,"metadata":{"k":"v"}}`,
		`{"type":"sendToGroup","group":"g","data":{"a":[1,"]}",{}]}}`,
		`{"type":"sendToGroup","group":"g","dataType":"binary","data":"AAH+/w=="}`,
		`{"type":"event","event":"e","ackId":4,"metadata":{}}`,
		`{"type":"sequenceAck","sequenceId":0}`,
		` { "t\u0079pe" : "ping" , "x" : null } `,
		`{"ackId":18446744073709551615,"type":"ping","type":"ping"}`,
		`{"type":"invoke","invocationId":"1","ackId":3}`,
		`{"type":"sendToGroup","group":"g","ackId":3,"stream":{"streamId":"s"}}`,
		`{"type":"streamData","streamId":"\ud83d\ude42"}`,
		`{"type":"setGroupState","ackId":1,"group":"\ud83d"}`,
		`[]`, `0`, ``, `{"":{}}`, `{"type":"\`,
	} {
		f.Add(s)
	}
	b := newBed(f)
	f.Fuzz(func(t *testing.T, message string) {
		if !utf8.ValidString(message) {
			return // the link has closed for it
		}
		c := b.connect(t, b.reliable(), "ann")
		defer func() { c.Close(cause.Client.CloseStatus()); b.events.list = nil }()
		got, how := c.say(message)

		answers, acks := 0, 0
		for _, m := range got {
			if strings.HasPrefix(m, `{"type":`) {
				answers++
			}
			if strings.HasPrefix(m, `{"type":"ack"`) {
				acks++
			}
		}
		switch {
		case how == (cause.CloseStatus{}):
			var independent map[string]any
			if err := json.Unmarshal([]byte(message), &independent); err != nil {
				t.Fatalf("%q was taken: %v", message, err)
			}
			verb, isText := independent["type"].(string)
			most, asked := 1, isText && verb != "ping" && verb != "sequenceAck" &&
				independent["ackId"] != nil
			if slices.Contains([]string{"invoke", "sendToGroup", "streamData", "streamEnd"},
				verb) && asked {
				most = 2 // the ack and the answer of its own
			}
			if asked != (acks == 1) || acks > 1 || answers > most ||
				verb == "ping" && answers != 1 {
				t.Errorf("%q: got %q", message, got)
			}
		case answers > 0:
			t.Errorf("%q: got %q, and closed with %+v", message, got, how)
		case how.Cause != cause.Protocol && how.Cause != cause.PolicyViolation &&
			how.Cause != cause.TooBig:
			t.Errorf("%q: closed with %+v", message, how)
		}
	})
}

// Valid commands, however they are written, never close.
func FuzzValidCommandsNeverClose(f *testing.F) {
	f.Add("g", "text", "hi", uint64(1), uint8(0))
	f.Add("\x00", "", "é\"\\", uint64(1<<63), uint8(1))
	f.Add("", "k", "", uint64(0), uint8(7))
	b := newBed(f)
	f.Fuzz(func(t *testing.T, group, key, value string, id uint64, options uint8) {
		command := map[string]any{
			"type":  []string{"joinGroup", "leaveGroup", "sendToGroup", "event"}[options%4],
			"group": group, "event": group,
			"data": value, "metadata": map[string]string{key: value}, "noEcho": options&4 != 0,
			"ttlSeconds": id % 100_000, key + "?": []any{value, nil, 1.5},
		}
		if options&8 != 0 {
			command["ackId"] = id
		}
		message, err := json.Marshal(command)
		if err != nil {
			t.Fatal(err)
		}
		if options&16 != 0 {
			var indented bytes.Buffer
			if err := json.Indent(&indented, message, "\t", " "); err != nil {
				t.Fatal(err)
			}
			message = indented.Bytes()
		}
		c := b.connect(t, b.json(), "ann")
		defer func() { c.Close(cause.Client.CloseStatus()); b.events.list = nil }()
		acks := 0
		for _, m := range c.do(string(message)) {
			if strings.HasPrefix(m, `{"type":"ack"`) {
				acks++
			}
		}
		if want := int(options >> 3 & 1); acks != want {
			t.Errorf("%s: %d acks, want %d", message, acks, want)
		}
	})
}
