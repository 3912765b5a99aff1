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

// member identifies a known member of a command.
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
	"type", "group", "event", "ackId", "sequenceId", "noEcho", "ttlSeconds", "metadata",
	"dataType", "data", "invocationId", "stream", "streamId",
}

// memberOf returns the member with a name, or memberEnd for an unknown name.
func memberOf(name []byte) member {
	for m, known := range memberNames {
		if string(name) == known {
			return member(m)
		}
	}
	return memberEnd
}

// command has the JSON values of the members of a client's message. They alias the message. A value
// is nil if the member is missing or null; only data may be null. Unknown members are ignored, and
// so are members that the command's type does not use.
type command [memberEnd][]byte

const (
	// maxMetadata is the limit of all names and values together, in bytes, the same as in the API.
	maxMetadata = 8 << 10
	// maxTTL is the limit of ttlSeconds, the same as for messages of backends.
	maxTTL = 24 * time.Hour
)

// parseMessage splits a message into its members. An error closes the connection: without an ackId
// that can be trusted, the client could not tell to which command an answer belongs.
func (c *command) parseMessage(message []byte) error {
	if !json.Valid(message) {
		return malformedError("not valid JSON")
	}
	o, ok := objectOf(message)
	if !ok {
		return malformedError("not a JSON object")
	}
	var seen uint16 // bits of members
	for {
		name, value, more := o.nextMember()
		if !more {
			return nil
		}
		name, _ = unquoteString(name)
		m := memberOf(name)
		if m == memberEnd {
			continue
		}
		if seen&(1<<m) != 0 {
			return malformedError(memberNames[m] + ": appears twice")
		}
		seen |= 1 << m
		if string(value) != "null" || m == memberData {
			c[m] = value
		}
	}
}

// requireText returns the string of a member that must be present. The result may alias the
// message.
func (c *command) requireText(m member) ([]byte, error) {
	if c[m] != nil {
		if s, ok := unquoteString(c[m]); ok {
			return s, nil
		}
	}
	return nil, badRequest(memberNames[m] + ": want a string")
}

// parseNumber returns the number of an optional member. It accepts only digits, so that ids up to
// 2^64-1 keep their precision.
func (c *command) parseNumber(m member) (n uint64, present bool, err error) {
	if c[m] == nil {
		return 0, false, nil
	}
	n, err = strconv.ParseUint(string(c[m]), 10, 64)
	if err != nil {
		return 0, false, badRequest(memberNames[m] + ": want a number from 0 to 2^64-1, in digits")
	}
	return n, true, nil
}

// ackID returns the ackId. asked is false if the client wants no ack. An error closes the
// connection, because the hub can't answer without the id.
func (c *command) ackID() (id uint64, asked bool, err error) {
	if id, asked, err = c.parseNumber(memberAckID); err != nil {
		err = malformedBy(err)
	}
	return id, asked, err
}

// noEcho reports whether the client does not want to receive its own message.
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

// requireName returns the name of a group or event, which must be present.
func (c *command) requireName(m member) (string, error) {
	b, err := c.requireText(m)
	if err != nil {
		return "", err
	}
	return checkedName(m, b)
}

func checkedName(m member, b []byte) (string, error) {
	s := string(b)
	if names.Check(s) != nil {
		return "", badRequest(memberNames[m] +
			": want a name of 1 to 1024 bytes without control characters")
	}
	return s, nil
}

// parseExpiry returns the time after which the message is not delivered. The zero time means no
// limit.
func (c *command) parseExpiry() (time.Time, error) {
	seconds, _, err := c.parseNumber(memberTTL)
	switch {
	case err != nil || seconds == 0:
		return time.Time{}, err
	case seconds > uint64(maxTTL/time.Second):
		return time.Time{}, badRequest("ttlSeconds: want 86400 at most")
	}
	return time.Now().Add(time.Duration(seconds) * time.Second), nil
}

func (c *command) parseMetadata() (map[string]string, error) {
	if c[memberMetadata] == nil {
		return nil, nil
	}
	o, ok := objectOf(c[memberMetadata])
	if !ok {
		return nil, badRequest("metadata: want an object of strings")
	}
	all, size := make(map[string]string), 0
	for {
		quoted, value, more := o.nextMember()
		if !more {
			return all, nil
		}
		unquoted, nameOK := unquoteString(quoted)
		s, valueOK := unquoteString(value)
		if !nameOK || !valueOK {
			return nil, badRequest("metadata: want an object of strings")
		}
		name, err := checkedName(memberMetadata, unquoted)
		if err != nil {
			return nil, err
		}
		if _, twice := all[name]; twice {
			return nil, badRequest("metadata: a name appears twice")
		}
		if size += len(name) + len(s); size > maxMetadata {
			return nil, badRequest("metadata: want 8 KiB at most")
		}
		all[name] = string(s)
	}
}

// copyPayload returns a copy of the data, of at most limit bytes. Only a command with metadata may
// leave out the data.
func (c *command) copyPayload(limit int64) (hub.PayloadKind, []byte, error) {
	if c[memberData] == nil && c[memberDataType] == nil && c[memberMetadata] != nil {
		return hub.Text, nil, nil
	}
	kind, data, err := c.copyData()
	if err == nil && int64(len(data)) > limit {
		err = edge.TooBig(limit)
	}
	return kind, data, err
}

func (c *command) copyData() (hub.PayloadKind, []byte, error) {
	dataType := "json"
	if c[memberDataType] != nil {
		s, err := c.requireText(memberDataType)
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
		s, err := c.requireText(memberData)
		return hub.Text, slices.Clone(s), err
	case "binary":
		b, err := c.decodeBase64()
		return hub.Binary, b, err
	case "protobuf":
		b, err := c.decodeBase64()
		return hub.Protobuf, b, err
	default:
		return 0, nil, badRequest("dataType: want json, text, binary or protobuf")
	}
}

// decodeBase64 decodes data that is a string in base64 (RFC 4648 §4).
func (c *command) decodeBase64() ([]byte, error) {
	s, err := c.requireText(memberData)
	if err != nil {
		return nil, err
	}
	room := make([]byte, 0, base64.StdEncoding.DecodedLen(len(s)))
	b, err := base64.StdEncoding.AppendDecode(room, s)
	if err != nil {
		return nil, badRequest("data: want base64")
	}
	return b, nil
}
