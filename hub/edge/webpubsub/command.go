package webpubsub

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/internal/names"
)

// member is one that a command may have.
type member uint8

const (
	memberType member = iota
	memberGroup
	memberEvent
	memberAckID
	memberSequenceID
	memberNoEcho
	memberTTL
	memberMetadata
	memberDataType
	memberData
	memberInvocationID
	memberStream
	memberStreamID

	memberEnd
)

var memberNames = [memberEnd]string{
	"type", "group", "event", "ackId", "sequenceId", "noEcho", "ttlSeconds", "metadata", "dataType", "data",
	"invocationId", "stream", "streamId",
}

// memberOf returns the member of a name; memberEnd: nobody knows it.
func memberOf(name []byte) member {
	for m, known := range memberNames {
		if string(name) == known {
			return member(m)
		}
	}
	return memberEnd
}

// command is a message of a client: its members' JSON values, parts of the message. nil: it is not there, or null. Members that nobody knows, and
// those that the command in question does not have, are not looked at.
type command [memberEnd][]byte

const (
	// maxMetadata bounds names and values together, as the API does.
	maxMetadata = 8 << 10
	// maxTTL is as long as a backend's message may be worth delivering.
	maxTTL = 24 * time.Hour
)

// parse splits a message into its members. An error ends the connection: the message is no command, so nothing says to which one an
// answer would belong.
func (c *command) parse(message []byte) error {
	if !json.Valid(message) {
		return malformed("not valid JSON")
	}
	o, ok := objectOf(message)
	if !ok {
		return malformed("not a JSON object")
	}
	var seen uint16 // bits of members
	for {
		name, value, more := o.next()
		if !more {
			return nil
		}
		name, _ = unquote(name)
		m := memberOf(name)
		if m == memberEnd {
			continue
		}
		if seen&(1<<m) != 0 {
			return malformed(memberNames[m] + ": is there twice")
		}
		seen |= 1 << m
		if string(value) != "null" || m == memberData {
			c[m] = value
		}
	}
}

// text returns a string that must be there, part of the message or not.
func (c *command) text(m member) ([]byte, error) {
	if c[m] != nil {
		if s, ok := unquote(c[m]); ok {
			return s, nil
		}
	}
	return nil, badRequest(memberNames[m] + ": want a string")
}

// number returns a number that may be there. It has digits only: ids as large as 2^64-1 keep all of theirs.
func (c *command) number(m member) (n uint64, there bool, err error) {
	if c[m] == nil {
		return 0, false, nil
	}
	n, err = strconv.ParseUint(string(c[m]), 10, 64)
	if err != nil {
		return 0, false, badRequest(memberNames[m] + ": want a number from 0 to 2^64-1, in digits")
	}
	return n, true, nil
}

// ackID returns the id under which the client wants an ack. An error ends the connection: the ack could not be told from others.
func (c *command) ackID() (id uint64, asked bool, err error) {
	if id, asked, err = c.number(memberAckID); err != nil {
		err = malformedBy(err)
	}
	return id, asked, err
}

// noEcho reports whether the client does not want its own message.
func (c *command) noEcho() (bool, error) {
	switch string(c[memberNoEcho]) {
	case "true":
		return true, nil
	case "", "false":
		return false, nil
	default:
		return false, badRequest("noEcho: want true or false")
	}
}

// name returns the name of a group or event.
func (c *command) name(m member) (string, error) {
	b, err := c.text(m)
	if err != nil {
		return "", err
	}
	return checkedName(m, b)
}

func checkedName(m member, b []byte) (string, error) {
	s := string(b)
	if names.Check(s) != nil {
		return "", badRequest(memberNames[m] + ": want a name of 1 to 1024 bytes without control characters")
	}
	return s, nil
}

// expires returns when the message is not worth delivering any more; zero: never.
func (c *command) expires() (time.Time, error) {
	seconds, _, err := c.number(memberTTL)
	switch {
	case err != nil || seconds == 0:
		return time.Time{}, err
	case seconds > uint64(maxTTL/time.Second):
		return time.Time{}, badRequest("ttlSeconds: want 86400 at most")
	}
	return time.Now().Add(time.Duration(seconds) * time.Second), nil
}

func (c *command) metadata() (map[string]string, error) {
	if c[memberMetadata] == nil {
		return nil, nil
	}
	o, ok := objectOf(c[memberMetadata])
	if !ok {
		return nil, badRequest("metadata: want an object of strings")
	}
	all, size := make(map[string]string), 0
	for {
		quoted, value, more := o.next()
		if !more {
			return all, nil
		}
		unquoted, nameOK := unquote(quoted)
		s, valueOK := unquote(value)
		if !nameOK || !valueOK {
			return nil, badRequest("metadata: want an object of strings")
		}
		name, err := checkedName(memberMetadata, unquoted)
		if err != nil {
			return nil, err
		}
		if _, twice := all[name]; twice {
			return nil, badRequest("metadata: a name is there twice")
		}
		if size += len(name) + len(s); size > maxMetadata {
			return nil, badRequest("metadata: want 8 KiB at most")
		}
		all[name] = string(s)
	}
}

// payload returns the data, a copy of its own, of at most limit bytes. A client that has metadata may leave it out.
func (c *command) payload(limit int64) (hub.PayloadKind, []byte, error) {
	if c[memberData] == nil && c[memberDataType] == nil && c[memberMetadata] != nil {
		return hub.Text, nil, nil
	}
	kind, data, err := c.data()
	if err == nil && int64(len(data)) > limit {
		err = edge.TooBig(limit)
	}
	return kind, data, err
}

func (c *command) data() (hub.PayloadKind, []byte, error) {
	dataType := "json"
	if c[memberDataType] != nil {
		s, err := c.text(memberDataType)
		if err != nil {
			return 0, nil, err
		}
		dataType = string(s)
	}
	switch dataType {
	case "json":
		if c[memberData] == nil {
			return 0, nil, badRequest("data: is missing")
		}
		return hub.JSON, slices.Clone(c[memberData]), nil
	case "text":
		s, err := c.text(memberData)
		return hub.Text, slices.Clone(s), err
	case "binary":
		b, err := c.bytes()
		return hub.Binary, b, err
	case "protobuf":
		b, err := c.bytes()
		return hub.Protobuf, b, err
	default:
		return 0, nil, badRequest("dataType: want json, text, binary or protobuf")
	}
}

// bytes decodes data that is a string in base64 (RFC 4648 §4).
func (c *command) bytes() ([]byte, error) {
	s, err := c.text(memberData)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.AppendDecode(make([]byte, 0, base64.StdEncoding.DecodedLen(len(s))), s)
	if err != nil {
		return nil, badRequest("data: want base64")
	}
	return b, nil
}
