package webpubsub

import (
	"errors"
	"strconv"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/jsonappend"
)

// Names of errors in answers. For clients, Duplicate means success and the rest mean a failure,
// after which they may repeat the command.
const (
	nameDuplicate      = "Duplicate"
	nameForbidden      = "Forbidden"
	nameBadRequest     = "BadRequest"
	nameNotSupported   = "NotSupported"
	nameStreamNotFound = "StreamNotFound"
	nameNoSubscriber   = "NoSubscriber"
	nameInternal       = "InternalServerError"
)

// commandError is the error of a command that was parsed and then refused. The client is told if
// its command has an ackId.
type commandError struct {
	name    string            // Forbidden and so on, for programs
	message string            // for people
	reason  edge.RejectReason // the label of the metric; 0: the command is not counted
}

func (r commandError) Error() string { return r.name + ": " + r.message }

// sendRefusal sends the message that answers a failed command, and returns the error with which the
// edge counts it.
func sendRefusal(c *hub.Connection, message []byte, failed *commandError) error {
	if err := c.Reply(hub.Text, message); err != nil {
		return err
	}
	return failed.countedError()
}

// countedError returns the error with which the edge counts the failure.
func (r *commandError) countedError() error { return &edge.Rejection{Reason: r.reason} }

var (
	duplicate = commandError{
		name: nameDuplicate, message: "a command with this ackId has succeeded before",
	}
	mayNotJoin = commandError{
		nameForbidden, "you may not join or leave this group", edge.RejectForbidden,
	}
	mayNotSend = commandError{
		nameForbidden, "you may not send to this group", edge.RejectForbidden,
	}
	tooManyJoins = commandError{
		nameForbidden, "a connection may be in " + strconv.Itoa(hub.MaxGroups) + " groups",
		edge.RejectForbidden,
	}
	noSubscriber = commandError{
		nameNoSubscriber, "no backend gets this event: none subscribes to it at this hub, " +
			"or their queues are full", edge.RejectNoSubscriber,
	}
	leaving      = commandError{nameInternal, "the hub is shutting down", edge.RejectShuttingDown}
	notSupported = commandError{
		nameNotSupported, "type: the hub does not support this command", edge.RejectUnsupported,
	}
	noInvoke = commandError{
		nameNotSupported, "invoke: the hub does not support invocations", edge.RejectUnsupported,
	}
	noStreams = commandError{
		nameNotSupported, "stream: the hub does not support streams", edge.RejectUnsupported,
	}
	noStream = commandError{
		nameStreamNotFound, "streamId: the hub does not support streams", edge.RejectUnsupported,
	}
)

// badRequest returns the error for a member that is missing, of a wrong type or beyond a limit.
func badRequest(message string) error {
	return commandError{nameBadRequest, message, edge.RejectInvalid}
}

const (
	// shortAck is the most bytes of an ack without an error, as a rule.
	shortAck = 64
	// longAck is the most bytes of an ack with an error, as a rule.
	longAck = 256
)

// ackMessage returns an ack. failed is nil if the command has succeeded.
func ackMessage(id uint64, failed *commandError) []byte {
	size := shortAck
	if failed != nil {
		size = longAck
	}
	b := append(make([]byte, 0, size), `{"type":"ack","ackId":`...)
	b = strconv.AppendUint(b, id, 10)
	if failed == nil {
		return append(b, `,"success":true}`...)
	}
	return append(appendError(append(b, `,"success":false`...), failed), '}')
}

// appendError appends the member "error".
func appendError(b []byte, failed *commandError) []byte {
	b = jsonappend.String(append(b, `,"error":{"name":`...), failed.name)
	return append(jsonappend.String(append(b, `,"message":`...), failed.message), '}')
}

// invokeFailure returns the message that answers a failed invocation.
func invokeFailure(invocation []byte, failed *commandError) []byte {
	b := jsonappend.String([]byte(`{"type":"invokeResponse","invocationId":`), invocation)
	return append(appendError(append(b, `,"success":false`...), failed), '}')
}

// streamClosed returns the message that ends a stream from the client.
func streamClosed(stream []byte, failed *commandError) []byte {
	b := jsonappend.String([]byte(`{"type":"streamClosed","streamId":`), stream)
	return append(appendError(b, failed), '}')
}

// codeMalformed is the close code for data that is not consistent with the type of the message
// (RFC 6455 §7.4.1). Here the type is text, and the text is no command.
const codeMalformed = 1007

// malformedError returns an error that closes the connection.
func malformedError(reason string) error {
	return &edge.Violation{Close: cause.CloseStatus{
		Cause: cause.Protocol, Code: codeMalformed, Reason: reason,
	}}
}

// malformedBy turns the error of a member that each command needs into an error that closes the
// connection.
func malformedBy(err error) error {
	if r, ok := errors.AsType[commandError](err); ok {
		return malformedError(r.message)
	}
	return err
}
