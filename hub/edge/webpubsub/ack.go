package webpubsub

import (
	"errors"
	"strconv"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/jsonappend"
)

// Names of errors in answers. Clients take Duplicate for success, and any other for a failure. Of a failed ack they may try the command again.
const (
	nameDuplicate      = "Duplicate"
	nameForbidden      = "Forbidden"
	nameBadRequest     = "BadRequest"
	nameNotSupported   = "NotSupported"
	nameStreamNotFound = "StreamNotFound"
	nameNoSubscriber   = "NoSubscriber"
	nameInternal       = "InternalServerError"
)

// refusal is the error of a command that has a known form and can't be carried out. The client is told if it wants an ack.
type refusal struct {
	name, message string
	reason        edge.RejectReason
}

func (r refusal) Error() string { return r.name + ": " + r.message }

// reply sends the client the frames that say why its command failed, and returns the error for the edge to count.
func reply(c *hub.Connection, frames []byte, failed *refusal) error {
	if err := c.Reply(frames); err != nil {
		return err
	}
	return failed.counted()
}

// counted returns the error with which Receive has the edge count the refusal.
func (r *refusal) counted() error { return &edge.Rejection{Reason: r.reason} }

var (
	duplicate    = refusal{name: nameDuplicate, message: "a command with this ackId has succeeded before"}
	mayNotJoin   = refusal{nameForbidden, "you may not join or leave this group", edge.RejectForbidden}
	mayNotSend   = refusal{nameForbidden, "you may not send to this group", edge.RejectForbidden}
	tooManyJoins = refusal{nameForbidden, "a connection may be in " + strconv.Itoa(hub.MaxGroups) + " groups", edge.RejectForbidden}
	noSubscriber = refusal{nameNoSubscriber, "no backend gets this event: none subscribes to it at this hub, or their queues are full", edge.RejectNoSubscriber}
	leaving      = refusal{nameInternal, "the hub is shutting down", edge.RejectShuttingDown}
	notSupported = refusal{nameNotSupported, "type: the hub does not support this command", edge.RejectUnsupported}
	noInvoke     = refusal{nameNotSupported, "invoke: the hub does not support invocations", edge.RejectUnsupported}
	noStreams    = refusal{nameNotSupported, "stream: the hub does not support streams", edge.RejectUnsupported}
	noStream     = refusal{nameStreamNotFound, "streamId: the hub does not support streams", edge.RejectUnsupported}
)

// badRequest is the refusal of a command whose member is missing, of the wrong type or beyond a limit.
func badRequest(message string) error { return refusal{nameBadRequest, message, edge.RejectInvalid} }

// ack returns the frame that answers a command; nil: it has succeeded.
func ack(id uint64, failed *refusal) []byte {
	var onStack [256]byte
	b := strconv.AppendUint(append(onStack[:0], `{"type":"ack","ackId":`...), id, 10)
	if failed == nil {
		b = append(b, `,"success":true}`...)
	} else {
		b = append(appendError(append(b, `,"success":false`...), failed), '}')
	}
	return frame.Append(make([]byte, 0, frame.MaxHeader+len(b)), frame.Text, b)
}

// appendError appends the member that says why a command failed.
func appendError(b []byte, failed *refusal) []byte {
	b = jsonappend.String(append(b, `,"error":{"name":`...), failed.name)
	return append(jsonappend.String(append(b, `,"message":`...), failed.message), '}')
}

// appendInvokeFailure appends the frame that answers an invocation which failed.
func appendInvokeFailure(dst []byte, invocation []byte, failed *refusal) []byte {
	b := jsonappend.String([]byte(`{"type":"invokeResponse","invocationId":`), invocation)
	return frame.Append(dst, frame.Text, append(appendError(append(b, `,"success":false`...), failed), '}'))
}

// appendStreamClosed appends the frame that ends a stream of the client's.
func appendStreamClosed(dst []byte, stream []byte, failed *refusal) []byte {
	b := jsonappend.String([]byte(`{"type":"streamClosed","streamId":`), stream)
	return frame.Append(dst, frame.Text, append(appendError(b, failed), '}'))
}

// codeMalformed is "not consistent with the type of the message" (RFC 6455 §7.4.1): what is text, and not a message of the protocol.
const codeMalformed = 1007

// malformed ends a connection whose client does not speak the protocol.
func malformed(reason string) error {
	return &edge.Violation{Close: cause.CloseStatus{Cause: cause.Protocol, Code: codeMalformed, Reason: reason}}
}

// malformedBy ends a connection for a member without which a message is no command.
func malformedBy(err error) error {
	if r, ok := errors.AsType[refusal](err); ok {
		return malformed(r.message)
	}
	return err
}
