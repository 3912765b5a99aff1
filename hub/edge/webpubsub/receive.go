package webpubsub

import (
	"context"
	"errors"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/permission"
)

// Receive executes a command.
func (p JSON) Receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error {
	return p.receiveCommand(c, kind, payload, false)
}

// Receive executes a command.
func (p ReliableJSON) Receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error {
	return p.receiveCommand(c, kind, payload, true)
}

func (p JSON) receiveCommand(
	c *hub.Connection, kind hub.PayloadKind, payload []byte, reliable bool,
) error {
	if kind != hub.Text {
		return &edge.Violation{Close: cause.Unsupported.CloseStatus()}
	}
	var cmd command
	if err := cmd.parseMessage(payload); err != nil {
		return err
	}
	verb, err := cmd.requireText(memberType)
	if err != nil {
		return malformedBy(err)
	}
	switch string(verb) {
	case "ping":
		return c.Reply(hub.Text, pong)
	case "sequenceAck":
		if reliable {
			return confirmSequence(c, &cmd)
		}
	case "sendToGroup", "event", "joinGroup", "leaveGroup":
		if cmd[memberStream] == nil {
			return p.executeAndAck(c, verb, &cmd)
		}
	}
	return answerUnsupported(c, verb, &cmd)
}

var pong = []byte(`{"type":"pong"}`)

// executeAndAck executes a command, unless a command with the same ackId has succeeded before. A
// client that sent an ackId gets an ack; a client that sent none gets no answer, also if the
// command fails.
func (p JSON) executeAndAck(c *hub.Connection, verb []byte, cmd *command) error {
	id, asked, err := cmd.ackID()
	if err != nil {
		return err
	}
	if asked && c.Did(id) {
		return c.Reply(hub.Text, ackMessage(id, &duplicate))
	}
	err = p.executeCommand(c, verb, cmd)
	refused, isRefused := errors.AsType[commandError](err)
	switch {
	case isRefused && asked: // without c.Done: a client may repeat the command
		return sendRefusal(c, ackMessage(id, &refused), &refused)
	case isRefused:
		return refused.countedError()
	case err != nil || !asked:
		return err
	default:
		c.Done(id)
		return c.Reply(hub.Text, ackMessage(id, nil))
	}
}

func (p JSON) executeCommand(c *hub.Connection, verb []byte, cmd *command) error {
	switch string(verb) {
	case "sendToGroup":
		return p.publishMessage(c, cmd)
	case "event":
		return emitEvent(c, cmd, p.payloadLimit())
	case "joinGroup":
		return joinGroup(c, cmd)
	default:
		return leaveGroup(c, cmd)
	}
}

// confirmSequence executes a sequenceAck.
func confirmSequence(c *hub.Connection, cmd *command) error {
	sequence, present, err := cmd.parseNumber(memberSequenceID)
	switch {
	case err != nil:
		return malformedBy(err)
	case !present:
		return malformedError("sequenceId: is missing")
	}
	if err = c.Ack(sequence); errors.Is(err, hub.ErrAckForged) {
		how := cause.PolicyViolation.CloseStatus()
		how.Reason = "sequenceId: nothing with this id was sent"
		return &edge.Violation{Close: how}
	}
	return err
}

// permittedGroup returns the group of a joinGroup or leaveGroup, which need the same permission.
func permittedGroup(c *hub.Connection, cmd *command) (string, error) {
	group, err := cmd.requireName(memberGroup)
	if err == nil && !c.May(permission.Permission{Action: permission.JoinGroup, Group: group}) {
		err = mayNotJoin
	}
	return group, err
}

func joinGroup(c *hub.Connection, cmd *command) error {
	group, err := permittedGroup(c, cmd)
	if err != nil {
		return err
	}
	switch err = c.Join(context.Background(), group); { // Join limits its own wait
	case errors.Is(err, hub.ErrGroupLimit):
		return tooManyJoins
	case errors.Is(err, hub.ErrShuttingDown):
		return leaving
	}
	return err
}

func leaveGroup(c *hub.Connection, cmd *command) error {
	group, err := permittedGroup(c, cmd)
	if err == nil {
		c.Leave(group)
	}
	return err
}

func emitEvent(c *hub.Connection, cmd *command, limit int64) error {
	event, err := cmd.requireName(memberEvent)
	if err != nil {
		return err
	}
	kind, payload, err := cmd.copyPayload(limit)
	if err != nil {
		return err
	}
	queued, err := c.Emit(&hub.ClientEvent{Name: event, Kind: kind, Payload: payload})
	if err == nil && !queued {
		return noSubscriber
	}
	return err
}

// publication holds a message to a group and its target, in a single allocation.
type publication struct {
	send    hub.Send
	message hub.Message // of send
	group   [1]string   // send.Target.Groups
	except  [1]string   // the sender, for noEcho
}

func (p JSON) publishMessage(c *hub.Connection, cmd *command) error {
	from := c.Identity()
	out := &publication{except: [1]string{string(from.ID)}}
	out.message.Namespace = from.Namespace
	out.message.Sender = hub.Sender{Connection: from.ID, User: from.User}
	if err := out.fillFrom(cmd, p.payloadLimit()); err != nil {
		return err
	}
	if !c.May(permission.Permission{Action: permission.SendToGroup, Group: out.group[0]}) {
		return mayNotSend
	}
	err := p.Publisher.Publish(context.Background(), &out.send) // Publish limits its own wait
	if errors.Is(err, hub.ErrShuttingDown) {
		return leaving
	}
	return err
}

// fillFrom sets the message and the target from a sendToGroup.
func (p *publication) fillFrom(cmd *command, limit int64) (err error) {
	m := &p.message
	if p.group[0], err = cmd.requireName(memberGroup); err != nil {
		return err
	}
	if m.Kind, m.Payload, err = cmd.copyPayload(limit); err != nil {
		return err
	}
	if m.Metadata, err = cmd.parseMetadata(); err != nil {
		return err
	}
	if m.Expires, err = cmd.parseExpiry(); err != nil {
		return err
	}
	noEcho, err := cmd.noEcho()
	if noEcho {
		p.send.Target.Except.Connections = p.except[:]
	}
	p.send.Message, p.send.Target.Groups = m, p.group[:]
	return err
}
