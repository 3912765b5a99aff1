package main

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

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

type sendCmd struct {
	targetFlags

	Text string `arg:"" help:"What to send; - reads it from standard input, whole, as one message."`

	JSONPayload bool              `name:"json-payload" xor:"kind" group:"Message" help:"TEXT is one JSON value; @FILE reads it from a file."`
	Binary      bool              `xor:"kind" group:"Message" help:"Send bytes: TEXT is - or @FILE."`
	Event       string            `placeholder:"NAME" group:"Message" help:"Name of the event."`
	Metadata    map[string]string `short:"m" mapsep:"none" placeholder:"NAME=VALUE" group:"Message" help:"A name and value beside the payload; repeatable."`
	MessageID   string            `name:"message-id" placeholder:"ID" group:"Message" help:"Id of the message; the hub makes one otherwise."`
	TTL         time.Duration     `name:"ttl" placeholder:"DURATION" group:"Message" help:"Drop the message where it is still queued after so long, such as 30s."`

	Wait        string        `enum:"none,queued,written,acked" default:"written" placeholder:"STATE" group:"Delivery" help:"Answer when every connection has it: none, queued, written or acked. (${default})"`
	WaitTimeout time.Duration `placeholder:"DURATION" group:"Delivery" help:"Answer after so long with the receipt as it stands. (5s)"`
	Policy      string        `enum:"default,close,drop-oldest,drop-newest,conflate" default:"default" placeholder:"POLICY" group:"Delivery" help:"When an outbox is full: close, drop-oldest, drop-newest or conflate. (${default}: the namespace's own)"`
	Key         string        `group:"Delivery" help:"With --policy conflate: the message replaces a queued one with the same key."`
	RequestID   string        `name:"request-id" placeholder:"ID" group:"Delivery" help:"Makes it safe to send again: a known id delivers nothing."`
	Detail      bool          `group:"Delivery" help:"Also name the connections, users and groups that matched nobody."`

	clientFlags
}

// Help is shown by --help below the usage.
func (sendCmd) Help() string {
	return `Examples:

    connhub send --everyone "Lunch is ready"

    connhub send --group blue --except-user ann --json-payload '{"score": 3}'

    connhub send --user ann --event photo --binary @cat.png`
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

func (c *sendCmd) Run(ctx context.Context, t *terminal) error {
	request, err := c.request(t.stdin)
	if err != nil {
		return err
	}
	return c.call(func(hub *client) error {
		var response *controlv1.SendResponse
		// A call's deadline cuts its wait, so it must be later.
		err := hub.invoke(ctx, c.WaitTimeout+c.WaitTimeout/4, func(ctx context.Context) (err error) {
			response, err = controlv1.NewDeliveryServiceClient(hub).Send(ctx, request)
			return err
		})
		switch {
		case err != nil:
			return err
		case c.JSON:
			return t.printJSON(response)
		}
		t.printReceipt(response.GetReceipt(), request.GetWait())
		return nil
	})
}

func (c *sendCmd) request(stdin io.Reader) (*controlv1.SendRequest, error) {
	target, err := c.target()
	if err != nil {
		return nil, err
	}
	message, err := c.message(stdin)
	if err != nil {
		return nil, err
	}
	r := &controlv1.SendRequest{
		Namespace: c.Namespace, Target: target, Message: message,
		Wait: waits[c.Wait], OverflowPolicy: policies[c.Policy], ConflationKey: c.Key, RequestId: c.RequestID,
	}
	if c.WaitTimeout != 0 {
		r.WaitTimeout = durationpb.New(c.WaitTimeout)
	}
	if c.Detail {
		r.Detail = controlv1.ReceiptDetail_RECEIPT_DETAIL_TARGETS
	}
	return r, nil
}

func (c *sendCmd) message(stdin io.Reader) (*controlv1.Message, error) {
	m := &controlv1.Message{Id: c.MessageID, Event: c.Event, Metadata: c.Metadata}
	if c.TTL != 0 {
		m.Ttl = durationpb.New(c.TTL)
	}
	payload, err := c.payload(stdin)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Binary:
		m.Payload = &controlv1.Message_Binary{Binary: payload}
	case !utf8.Valid(payload):
		return nil, usagef("this is not UTF-8 text; to send bytes: --binary")
	case c.JSONPayload:
		m.Payload = &controlv1.Message_Json{Json: string(bytes.TrimSpace(payload))}
	default:
		m.Payload = &controlv1.Message_Text{Text: string(payload)}
	}
	return m, nil
}

// payload reads what TEXT stands for. @FILE is for JSON and bytes only: a text may well begin with "@".
func (c *sendCmd) payload(stdin io.Reader) ([]byte, error) {
	path, isFile := strings.CutPrefix(c.Text, "@")
	switch {
	case c.Text == "-":
		return readPayload("standard input", stdin)
	case isFile && (c.JSONPayload || c.Binary):
		f, err := os.Open(path)
		if err != nil {
			return nil, usageError{err}
		}
		b, err := readPayload(path, f)
		return b, errors.Join(err, f.Close())
	case c.Binary:
		return nil, usagef("with --binary give - (standard input) or @FILE")
	}
	return []byte(c.Text), nil
}

// readPayload reads no more than a message may hold.
func readPayload(name string, r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, hub.MaxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > hub.MaxPayload {
		return nil, usagef("%s holds more than a message may: 1 MiB (%d bytes)", name, hub.MaxPayload)
	}
	return b, nil
}
