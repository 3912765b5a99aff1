package webpubsub

import "github.com/connhub/connhub/hub"

// maxEchoedID is the most bytes of an invocation's or stream's id that an answer repeats. It bounds the answer. The official clients use UUIDs
// and short numbers.
const maxEchoedID = 128

// refuse answers a command that the hub does not support in the form that its clients wait for: an invocation with a failed invokeResponse,
// what belongs to a stream with a streamClosed, and anything that carries an ackId with a failed ack. A command without any of these
// ids can't be answered, so it is only counted. The connection goes on: its groups and its tail are worth more than one command.
func refuse(c *hub.Connection, verb []byte, cmd *command) error {
	id, asked, err := cmd.ackID()
	if err != nil {
		return err
	}
	failed := &notSupported
	var answers []byte
	switch string(verb) {
	case "invoke":
		failed = &noInvoke
		if invocation, ok := echoedID(cmd[memberInvocationID]); ok {
			answers = appendInvokeFailure(answers, invocation, failed)
		}
	case "sendToGroup": // the start of a stream
		failed = &noStreams
		if stream, ok := echoedID(memberOfObject(cmd[memberStream], memberStreamID)); ok {
			answers = appendStreamClosed(answers, stream, failed)
		}
	case "streamData", "streamEnd":
		failed = &noStream
		if stream, ok := echoedID(cmd[memberStreamID]); ok {
			answers = appendStreamClosed(answers, stream, failed)
		}
	}
	if asked {
		answers = append(answers, ack(id, failed)...)
	}
	if answers == nil {
		return failed.counted()
	}
	return reply(c, answers, failed)
}

// echoedID returns an id that an answer may repeat, and reports false for a value that is no string, empty or too long.
func echoedID(value []byte) ([]byte, bool) {
	if value == nil {
		return nil, false
	}
	id, ok := unquote(value)
	return id, ok && len(id) > 0 && len(id) <= maxEchoedID
}

// memberOfObject returns the value of a member, nil if value is no object or lacks it.
func memberOfObject(value []byte, wanted member) []byte {
	o, ok := objectOf(value)
	for ok {
		name, v, more := o.next()
		if !more {
			break
		}
		if name, _ = unquote(name); string(name) == memberNames[wanted] {
			return v
		}
	}
	return nil
}
