package webpubsub

import (
	"context"
	"errors"
	"slices"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/frame"
)

// Receive carries out a command.
func (p JSON) Receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error {
	return p.receive(c, kind, payload, false)
}

// Receive carries out a command.
func (p ReliableJSON) Receive(c *hub.Connection, kind hub.PayloadKind, payload []byte) error {
	return p.receive(c, kind, payload, true)
}

func (p JSON) receive(c *hub.Connection, kind hub.PayloadKind, payload []byte, reliable bool) error {
	if kind != hub.Text {
		return &edge.Violation{Close: cause.Unsupported.CloseStatus()}
	}
	var cmd command
	if err := cmd.parse(payload); err != nil {
		return err
	}
	verb, err := cmd.text(memberType)
	if err != nil {
		return malformedBy(err)
	}
	switch string(verb) {
	case "ping":
		return c.Reply(pong)
	case "sequenceAck":
		if reliable {
			return confirm(c, &cmd)
		}
	case "sendToGroup", "event", "joinGroup", "leaveGroup":
		if cmd[memberStream] == nil {
			return p.answer(c, verb, &cmd)
		}
	}
	return refuse(c, verb, &cmd)
}

// pong has no room behind it: a reply that is appended goes elsewhere.
var pong = slices.Clip(frame.Append(nil, frame.Text, []byte(`{"type":"pong"}`)))

// answer carries out a command, once, and tells the client what became of it if it asks with an ackId. Who does not ask is not told of
// a refusal either.
func (p JSON) answer(c *hub.Connection, verb []byte, cmd *command) error {
	id, asked, err := cmd.ackID()
	if err != nil {
		return err
	}
	if asked && c.Did(id) {
		return c.Reply(ack(id, &duplicate))
	}
	err = p.carryOut(c, verb, cmd)
	refused, isRefused := errors.AsType[refusal](err)
	switch {
	case isRefused && asked: // and not remembered: clients try again
		return reply(c, ack(id, &refused), &refused)
	case isRefused:
		return refused.counted()
	case err != nil || !asked:
		return err
	default:
		c.Done(id)
		return c.Reply(ack(id, nil))
	}
}

func (p JSON) carryOut(c *hub.Connection, verb []byte, cmd *command) error {
	switch string(verb) {
	case "sendToGroup":
		return p.send(c, cmd)
	case "event":
		return emit(c, cmd, p.payloadLimit())
	case "joinGroup":
		return join(c, cmd)
	default:
		return leave(c, cmd)
	}
}

// confirm takes what the client has received.
func confirm(c *hub.Connection, cmd *command) error {
	sequence, there, err := cmd.number(memberSequenceID)
	switch {
	case err != nil:
		return malformedBy(err)
	case !there:
		return malformed("sequenceId: is missing")
	}
	if err = c.Ack(sequence); errors.Is(err, hub.ErrAckForged) {
		how := cause.PolicyViolation.CloseStatus()
		how.Reason = "sequenceId: nothing with this id was sent"
		return &edge.Violation{Close: how}
	}
	return err
}

// membership returns the group that the client wants to enter or leave, which takes the same permission.
func membership(c *hub.Connection, cmd *command) (string, error) {
	group, err := cmd.name(memberGroup)
	if err == nil && !c.May(hub.Permission{Action: hub.JoinGroup, Group: group}) {
		err = mayNotJoin
	}
	return group, err
}

func join(c *hub.Connection, cmd *command) error {
	group, err := membership(c, cmd)
	if err != nil {
		return err
	}
	switch err = c.Join(context.Background(), group); { // it has its own limit
	case errors.Is(err, hub.ErrGroupLimit):
		return tooManyJoins
	case errors.Is(err, hub.ErrShuttingDown):
		return leaving
	}
	return err
}

func leave(c *hub.Connection, cmd *command) error {
	group, err := membership(c, cmd)
	if err == nil {
		c.Leave(group)
	}
	return err
}

func emit(c *hub.Connection, cmd *command, limit int64) error {
	event, err := cmd.name(memberEvent)
	if err != nil {
		return err
	}
	kind, payload, err := cmd.payload(limit)
	if err != nil {
		return err
	}
	queued, err := c.Emit(&hub.Event{Name: event, Kind: kind, Payload: payload})
	if err == nil && !queued {
		return noSubscriber
	}
	return err
}

// publication is what a message to a group takes, in one piece of memory.
type publication struct {
	send    hub.Send
	message hub.Message
	group   [1]string
	except  [1]string
}

func (p JSON) send(c *hub.Connection, cmd *command) error {
	from := c.Identity()
	out := &publication{except: [1]string{string(from.ID)}}
	out.message.Namespace, out.message.Sender = from.Namespace, hub.Sender{Connection: from.ID, User: from.User}
	if err := out.fill(cmd, p.payloadLimit()); err != nil {
		return err
	}
	if !c.May(hub.Permission{Action: hub.SendToGroup, Group: out.group[0]}) {
		return mayNotSend
	}
	err := p.Publisher.Publish(context.Background(), &out.send) // it has its own limits
	if errors.Is(err, hub.ErrShuttingDown) {
		return leaving
	}
	return err
}

// fill takes what the client says.
func (p *publication) fill(cmd *command, limit int64) (err error) {
	m := &p.message
	if p.group[0], err = cmd.name(memberGroup); err != nil {
		return err
	}
	if m.Kind, m.Payload, err = cmd.payload(limit); err != nil {
		return err
	}
	if m.Metadata, err = cmd.metadata(); err != nil {
		return err
	}
	if m.Expires, err = cmd.expires(); err != nil {
		return err
	}
	noEcho, err := cmd.noEcho()
	if noEcho {
		p.send.Target.Except.Connections = p.except[:]
	}
	p.send.Message, p.send.Target.Groups = m, p.group[:]
	return err
}
