package webpubsub

import "github.com/connhub/connhub/hub"

// maxEchoedID is the limit of an id of an invocation or stream that an answer repeats, in bytes. It
// bounds the answer. The official clients use UUIDs and short numbers.
const maxEchoedID = 128

// answerUnsupported answers a command that the hub does not support in the form that its clients
// wait for:
//
//   - an invocation with a failed invokeResponse
//   - a command of a stream with a streamClosed
//   - a command with an ackId with a failed ack
//
// A command without any of these ids is only counted. The connection stays open: closing it would
// lose its groups and its unconfirmed messages for the sake of a single command.
func answerUnsupported(c *hub.Connection, verb []byte, cmd *command) error {
	id, asked, err := cmd.ackID()
	if err != nil {
		return err
	}
	failed := &notSupported
	var answer []byte
	switch string(verb) {
	case "invoke":
		failed = &noInvoke
		if invocation, ok := echoedID(cmd[memberInvocationID]); ok {
			answer = invokeFailure(invocation, failed)
		}
	case "sendToGroup": // the start of a stream
		failed = &noStreams
		if stream, ok := echoedID(memberOfObject(cmd[memberStream], memberStreamID)); ok {
			answer = streamClosed(stream, failed)
		}
	case "streamData", "streamEnd":
		failed = &noStream
		if stream, ok := echoedID(cmd[memberStreamID]); ok {
			answer = streamClosed(stream, failed)
		}
	}
	if answer != nil {
		if err := c.Reply(hub.Text, answer); err != nil {
			return err
		}
	}
	if asked {
		return sendRefusal(c, ackMessage(id, failed), failed)
	}
	return failed.countedError()
}

// echoedID returns an id for an answer. It reports false if value is no string, empty or too long.
func echoedID(value []byte) ([]byte, bool) {
	if value == nil {
		return nil, false
	}
	id, ok := unquoteString(value)
	return id, ok && len(id) > 0 && len(id) <= maxEchoedID
}

// memberOfObject returns the value of a member, or nil if value is no object or does not have it.
func memberOfObject(value []byte, wanted member) []byte {
	o, ok := objectOf(value)
	for ok {
		name, v, more := o.nextMember()
		if !more {
			break
		}
		if name, _ = unquoteString(name); string(name) == memberNames[wanted] {
			return v
		}
	}
	return nil
}
