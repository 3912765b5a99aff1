package webpubsub

import (
	"strconv"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
	"github.com/connhub/connhub/hub/edge/jsonappend"
)

// Names of errors in acks. Clients take Duplicate for success, and any other for a failure that they may try again.
const (
	nameDuplicate  = "Duplicate"
	nameForbidden  = "Forbidden"
	nameBadRequest = "BadRequest"
	nameInternal   = "InternalServerError"
)

// refusal is the error of a command that is what the protocol asks for and can't be carried out. The client is told if it wants an ack.
type refusal struct{ name, message string }

func (r refusal) Error() string { return r.name + ": " + r.message }

var (
	duplicate    = refusal{nameDuplicate, "a command with this ackId has succeeded before"}
	mayNotJoin   = refusal{nameForbidden, "you may not join or leave this group"}
	mayNotSend   = refusal{nameForbidden, "you may not send to this group"}
	tooManyJoins = refusal{nameForbidden, "a connection may be in " + strconv.Itoa(hub.MaxGroups) + " groups"}
	leaving      = refusal{nameInternal, "the hub is shutting down"}
)

// ack returns the frame that answers a command; nil: it has succeeded.
func ack(id uint64, failed *refusal) []byte {
	var onStack [256]byte
	b := strconv.AppendUint(append(onStack[:0], `{"type":"ack","ackId":`...), id, 10)
	if failed == nil {
		b = append(b, `,"success":true}`...)
	} else {
		b = jsonappend.String(append(b, `,"success":false,"error":{"name":`...), failed.name)
		b = jsonappend.String(append(b, `,"message":`...), failed.message)
		b = append(b, "}}"...)
	}
	return frame.Append(make([]byte, 0, frame.MaxHeader+len(b)), frame.Text, b)
}

// codeMalformed is "not consistent with the type of the message" (RFC 6455 §7.4.1): what is text, and not a message of the protocol.
const codeMalformed = 1007

// malformed ends a connection whose client does not speak the protocol.
func malformed(reason string) error {
	return &edge.Violation{Close: hub.Close{Cause: hub.CauseProtocol, Code: codeMalformed, Reason: reason}}
}
