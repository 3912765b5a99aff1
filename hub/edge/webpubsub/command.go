package webpubsub

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
)

// command is a message of a client: the JSON values of the members that commands have, parts of the message. nil: it is not there, or null.
// What a command does not know may be there and is not looked at.
type command struct {
	kind, group, event, ackID, sequenceID, noEcho, ttl, metadata, dataType, data []byte
}

const (
	// maxMetadata bounds names and values together, as the API does.
	maxMetadata = 8 << 10
	// maxTTL is as long as a backend's message may be worth delivering.
	maxTTL = 24 * time.Hour
)

// parse takes a message apart.
func parse(payload []byte) (command, error) {
	var c command
	if !json.Valid(payload) {
		return c, malformed("not valid JSON")
	}
	o, ok := objectOf(payload)
	if !ok {
		return c, malformed("not a JSON object")
	}
	var seen uint16 // bits of the members
	for {
		name, value, more := o.next()
		if !more {
			return c, nil
		}
		field, bit := c.field(name)
		switch {
		case field == nil:
			continue
		case seen&bit != 0:
			return c, malformed("a member is there twice")
		case string(value) != "null" || field == &c.data:
			*field = value
		}
		seen |= bit
	}
}

// field returns where the value of a member goes, and the member's bit; nil: nobody looks at it.
func (c *command) field(name []byte) (_ *[]byte, bit uint16) {
	name, _ = unquote(name)
	switch string(name) {
	case "type":
		return &c.kind, 1 << 0
	case "group":
		return &c.group, 1 << 1
	case "event":
		return &c.event, 1 << 2
	case "ackId":
		return &c.ackID, 1 << 3
	case "sequenceId":
		return &c.sequenceID, 1 << 4
	case "noEcho":
		return &c.noEcho, 1 << 5
	case "ttlSeconds":
		return &c.ttl, 1 << 6
	case "metadata":
		return &c.metadata, 1 << 7
	case "dataType":
		return &c.dataType, 1 << 8
	case "data":
		return &c.data, 1 << 9
	default:
		return nil, 0
	}
}

// text returns a string that must be there, part of the message or not; name is the member's.
func text(name string, value []byte) ([]byte, error) {
	if value != nil {
		if s, ok := unquote(value); ok {
			return s, nil
		}
	}
	return nil, malformed(name + ": want a string")
}

// number returns a number that may be there. Numbers have digits only: ids as large as 2^64 - 1 keep all of theirs.
func number(name string, value []byte) (n uint64, there bool, err error) {
	if value == nil {
		return 0, false, nil
	}
	n, err = strconv.ParseUint(string(value), 10, 64)
	if err != nil {
		return 0, false, malformed(name + ": want a number from 0 to 2^64-1, in digits")
	}
	return n, true, nil
}

// flag returns noEcho.
func (c *command) flag() (bool, error) {
	switch string(c.noEcho) {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, malformed("noEcho: want true or false")
	}
}

// name returns the name of a group or event.
func name(member string, value []byte) (string, error) {
	b, err := text(member, value)
	if err != nil {
		return "", err
	}
	s := string(b)
	if edge.CheckName(s) != nil {
		return "", refusal{nameBadRequest, member + ": want 1 to 1024 bytes without control characters"}
	}
	return s, nil
}

// expires returns when the message is not worth delivering any more; zero: never.
func (c *command) expires() (time.Time, error) {
	seconds, _, err := number("ttlSeconds", c.ttl)
	switch {
	case err != nil || seconds == 0:
		return time.Time{}, err
	case seconds > uint64(maxTTL/time.Second):
		return time.Time{}, refusal{nameBadRequest, "ttlSeconds: want 86400 at most"}
	}
	return time.Now().Add(time.Duration(seconds) * time.Second), nil
}

// extras returns the metadata.
func (c *command) extras() (map[string]string, error) {
	if c.metadata == nil {
		return nil, nil
	}
	o, ok := objectOf(c.metadata)
	if !ok {
		return nil, malformed("metadata: want an object of strings")
	}
	all, bytes := make(map[string]string), 0
	for {
		quoted, value, more := o.next()
		if !more {
			return all, nil
		}
		n, err := name("metadata", quoted)
		if err != nil {
			return nil, err
		}
		v, ok := unquote(value)
		if !ok {
			return nil, malformed("metadata: want an object of strings")
		}
		if _, twice := all[n]; twice {
			return nil, malformed("a member is there twice")
		}
		if bytes += len(n) + len(v); bytes > maxMetadata {
			return nil, refusal{nameBadRequest, "metadata: want 8 KiB at most"}
		}
		all[n] = string(v)
	}
}

// payload returns the data, a copy of its own. Whoever has metadata to send may leave it out.
func (c *command) payload() (hub.PayloadKind, []byte, error) {
	if c.data == nil && c.dataType == nil && c.metadata != nil {
		return hub.Text, nil, nil
	}
	kind, data, err := c.decoded()
	if err == nil && len(data) > hub.MaxPayload {
		err = &edge.Violation{Close: hub.NewClose(hub.CauseTooBig)}
	}
	return kind, data, err
}

func (c *command) decoded() (hub.PayloadKind, []byte, error) {
	dataType := []byte("json")
	var err error
	if c.dataType != nil {
		if dataType, err = text("dataType", c.dataType); err != nil {
			return 0, nil, err
		}
	}
	switch string(dataType) {
	case "json":
		if c.data == nil {
			return 0, nil, malformed("data is missing")
		}
		return hub.JSON, slices.Clone(c.data), nil
	case "text":
		s, err := text("data", c.data)
		return hub.Text, slices.Clone(s), err
	case "binary", "protobuf": // which clients send as they send binary, and take as binary
		s, err := text("data", c.data)
		if err != nil {
			return 0, nil, err
		}
		b, err := base64.StdEncoding.AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(s))), s)
		if err != nil {
			return 0, nil, malformed("data: want base64")
		}
		return hub.Binary, b, nil
	default:
		return 0, nil, malformed("dataType: want json, text, binary or protobuf")
	}
}
