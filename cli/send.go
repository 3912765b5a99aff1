package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type sendCmd struct {
	TargetFlags

	Text string `arg:"" help:"Payload; - sends each line of standard input as a message."`

	Whole       bool              `group:"Message" help:"With -: all of standard input is one message."`
	JSONPayload bool              `name:"json-payload" xor:"kind" group:"Message" help:"TEXT is one JSON value, with - each line is one; @FILE reads it from a file."`
	Binary      bool              `xor:"kind" group:"Message" help:"Send bytes: TEXT is - (whole) or @FILE."`
	Event       string            `placeholder:"NAME" group:"Message" help:"Name of the event."`
	Metadata    map[string]string `short:"m" mapsep:"none" placeholder:"NAME=VALUE" group:"Message" help:"A name and value beside the payload; repeatable."`
	MessageID   string            `name:"message-id" placeholder:"ID" group:"Message" help:"Id of the message; the hub makes one otherwise."`
	TTL         time.Duration     `name:"ttl" placeholder:"DURATION" group:"Message" help:"Drop the message if it is still queued after this time, such as 30s."`

	Wait        string        `enum:"none,queued,written,acked" default:"written" placeholder:"STATE" group:"Delivery" help:"Answer when every connection has reached this state: none, queued, written or acked. (${default})"`
	WaitTimeout time.Duration `placeholder:"DURATION" group:"Delivery" help:"Answer after this time with the receipt so far. (5s)"`
	Policy      string        `enum:"default,close,drop-oldest,drop-newest,conflate" default:"default" placeholder:"POLICY" group:"Delivery" help:"When an outbox is full: close, drop-oldest, drop-newest or conflate. (${default}: the namespace's own)"`
	Key         string        `group:"Delivery" help:"With --policy conflate: the message replaces a queued one with the same key."`
	RequestID   string        `name:"request-id" placeholder:"ID" group:"Delivery" help:"Makes a repeated send safe: a known id delivers nothing. Line 7 has ID.7."`
	RequireAll  bool          `name:"require-all-hubs" group:"Delivery" help:"Fail when a hub that may hold a part of the target can't be reached. The rest may have the message then; the same --request-id makes a repeated send safe."`
	Detail      bool          `group:"Delivery" help:"Also name the connections, users and groups without a match."`

	dial.Flags
}

// Help is shown by --help below the usage.
func (sendCmd) Help() string {
	return `With - each line of standard input is a message, sent as it comes; empty lines are
skipped. A line that can't be sent is reported, and the rest is sent. If the hub leaves, lines
without an answer are sent again through the next hub, and nothing is delivered twice. --json
prints a result for each line, in the order in which they come.

The exit code is 0 when a hub took the message, also if there was no match, if it is still queued
or was dropped, or if the outcome at another hub is unknown. With --require-all-hubs an unknown
outcome is a failure. The exit code is 1 when sending failed (with -, of any line), and 2 when the
command line is wrong and nothing was sent.

Examples:

    connhub send --everyone "Lunch is ready"

    connhub send --group blue --except-user ann --json-payload '{"score": 3}'

    connhub send --user ann --event photo --binary @cat.png

    tail -f scores.ndjson | connhub send --group blue --json-payload -`
}

var waits = map[string]controlv1.Wait{
	"none":    controlv1.Wait_WAIT_NONE,
	"queued":  controlv1.Wait_WAIT_QUEUED,
	"written": controlv1.Wait_WAIT_WRITTEN,
	"acked":   controlv1.Wait_WAIT_ACKED,
}

var policies = map[string]controlv1.OverflowPolicy{
	"default":     controlv1.OverflowPolicy_OVERFLOW_POLICY_UNSPECIFIED,
	"close":       controlv1.OverflowPolicy_OVERFLOW_POLICY_CLOSE,
	"drop-oldest": controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_OLDEST,
	"drop-newest": controlv1.OverflowPolicy_OVERFLOW_POLICY_DROP_NEWEST,
	"conflate":    controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE,
}

func (c *sendCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	request, err := c.newRequest()
	if err != nil {
		return err
	}
	if c.Whole && c.Text != "-" {
		return terminal.UsageErrorf("--whole is for standard input: give - as the text")
	}
	if c.Text == "-" && !c.Whole && !c.Binary {
		if c.MessageID != "" {
			return terminal.UsageErrorf("--message-id is for one message: with - each line is " +
				"one, and " +
				"has an id of its own")
		}
		return c.WithClient(func(hub *dial.Client) error {
			return newLineSender(c, hub, t, request).sendLines(ctx)
		})
	}
	if err := c.fillPayload(request.GetMessage(), t.Stdin); err != nil {
		return err
	}
	return c.WithClient(func(hub *dial.Client) error { return c.sendMessage(ctx, t, hub, request) })
}

// sendMessage sends a single message.
func (c *sendCmd) sendMessage(
	ctx context.Context, t *terminal.Terminal, hub *dial.Client, request *controlv1.SendRequest,
) error {
	var response *controlv1.SendResponse
	// The deadline of a call cuts its wait, so the deadline must be later.
	err := hub.InvokeWithin(ctx, c.WaitTimeout+c.WaitTimeout/4,
		func(ctx context.Context) (err error) {
			response, err = controlv1.NewDeliveryServiceClient(hub).Send(ctx, request)
			return err
		})
	switch {
	case err != nil:
		return err
	case c.JSON:
		return dial.PrintJSON(t, response)
	}
	printReceipt(t, response.GetReceipt(), request.GetWait())
	dial.PrintGaps(t, response.GetReceipt())
	return nil
}

// newRequest returns the request of the flags, without a payload.
func (c *sendCmd) newRequest() (*controlv1.SendRequest, error) {
	target, err := c.parseTarget()
	if err != nil {
		return nil, err
	}
	r := &controlv1.SendRequest{
		Namespace: c.Namespace, Target: target,
		Message: &controlv1.Message{Id: c.MessageID, Event: c.Event, Metadata: c.Metadata},
		Wait:    waits[c.Wait], OverflowPolicy: policies[c.Policy], ConflationKey: c.Key,
		RequestId:      c.RequestID,
		RequireAllHubs: c.RequireAll,
	}
	if c.TTL != 0 {
		r.Message.Ttl = durationpb.New(c.TTL)
	}
	if c.WaitTimeout != 0 {
		r.WaitTimeout = durationpb.New(c.WaitTimeout)
	}
	if c.Detail {
		r.Detail = controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS
	}
	return r, nil
}

// errNotText is the error for bytes that are sent as text or JSON.
var errNotText = errors.New("this is not UTF-8 text; to send bytes: --binary")

// fillPayload loads the payload of TEXT into a message.
func (c *sendCmd) fillPayload(m *controlv1.Message, stdin io.Reader) error {
	payload, err := c.loadPayload(stdin)
	if err != nil {
		return err
	}
	if err := c.setPayload(m, payload); err != nil {
		return terminal.UsageErrorf("%w", err)
	}
	return nil
}

// setPayload makes bytes the payload of a message.
func (c *sendCmd) setPayload(m *controlv1.Message, payload []byte) error {
	switch {
	case c.Binary:
		m.Payload = &controlv1.Message_Binary{Binary: payload}
	case !utf8.Valid(payload):
		return errNotText
	case c.JSONPayload:
		m.Payload = &controlv1.Message_Json{Json: string(bytes.TrimSpace(payload))}
	default:
		m.Payload = &controlv1.Message_Text{Text: string(payload)}
	}
	return nil
}

// loadPayload returns the bytes that TEXT means. @FILE is for JSON and bytes only, because a text
// may begin with "@".
func (c *sendCmd) loadPayload(stdin io.Reader) ([]byte, error) {
	path, isFile := strings.CutPrefix(c.Text, "@")
	switch {
	case c.Text == "-":
		return readPayload("standard input", stdin)
	case isFile && (c.JSONPayload || c.Binary):
		f, err := os.Open(path)
		if err != nil {
			return nil, terminal.UsageErrorf("%w", err)
		}
		b, err := readPayload(path, f)
		return b, errors.Join(err, f.Close())
	case c.Binary:
		return nil, terminal.UsageErrorf("with --binary give - (standard input) or @FILE")
	}
	return []byte(c.Text), nil
}

// readPayload reads at most the bytes that a message may hold.
func readPayload(name string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, dial.MaxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > dial.MaxPayload {
		return nil, terminal.UsageErrorf(
			"%s holds more than a message may: 1 MiB (%d bytes)", name, dial.MaxPayload,
		)
	}
	return b, nil
}
