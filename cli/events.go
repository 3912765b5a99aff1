package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	runewidth "github.com/mattn/go-runewidth"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	eventsv1 "github.com/connhub/connhub/gen/connhub/events/v1"
)

type eventsCmd struct {
	Tail eventsTailCmd `cmd:"" help:"Watch what clients do, as it happens."`
}

type eventsTailCmd struct {
	Event   []string `sep:"none" placeholder:"NAME" help:"Only messages with this name, and the kinds of --kind; repeatable."`
	Kind    []string `enum:"connected,message,disconnected" placeholder:"KIND" help:"Only events of this kind: connected, message or disconnected; repeatable."`
	AllHubs bool     `help:"Watch also every hub that the hub at --addr knows now."`

	dial.Flags
}

// Help is shown by --help below the usage.
func (eventsTailCmd) Help() string {
	return `Prints a line for each new connection (connected), each message of a client for
backends, and each ended connection (disconnected, with the cause), from now on, at the hub at
--addr. "gap" stands for messages that were dropped because they came faster than they were
printed. With --json each line is an event of the API.

It ends with Ctrl-C, or with the hub.`
}

// Run watches until ctx ends or no hub is left.
func (c *eventsTailCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	return c.WithClient(func(hub *dial.Client) error {
		hubs := []*dial.Client{hub}
		if c.AllHubs {
			others, err := c.dialPeers(ctx, t, hub)
			defer func() {
				for _, other := range others {
					_ = other.Close()
				}
			}()
			if err != nil {
				return err
			}
			hubs = append(hubs, others...)
		}
		return c.watchHubs(ctx, t, hubs)
	})
}

// dialPeers returns clients for the hubs that a hub knows, without that hub itself.
func (c *eventsTailCmd) dialPeers(
	ctx context.Context, t *terminal.Terminal, hub *dial.Client,
) (others []*dial.Client, err error) {
	var response *controlv1.ListHubsResponse
	err = hub.InvokeWithin(ctx, 0, func(ctx context.Context) (err error) {
		response, err = controlv1.NewHubServiceClient(hub).ListHubs(ctx,
			&controlv1.ListHubsRequest{})
		return err
	})
	for _, h := range response.GetHubs() {
		switch {
		case h.GetSelf():
			continue
		case h.GetAddress() == "":
			t.PrintNote("hub %s is left out: its address is not known", h.GetId())
			continue
		}
		flags := c.Flags
		flags.Addr = h.GetAddress()
		other, err := flags.DialHub()
		if err != nil {
			return others, err
		}
		others = append(others, other)
	}
	return others, err
}

// newSubscription returns the subscription that the flags select.
func (c *eventsTailCmd) newSubscription() *eventsv1.Subscription {
	s := &eventsv1.Subscription{Namespaces: []string{c.Namespace}, MessageNames: c.Event}
	for _, kind := range c.Kind {
		s.Kinds = append(s.Kinds, eventsv1.EventKind(eventsv1.EventKind_value["EVENT_KIND_"+
			strings.ToUpper(kind)]))
	}
	if len(c.Event) > 0 && !slices.Contains(s.Kinds, eventsv1.EventKind_EVENT_KIND_MESSAGE) {
		s.Kinds = append(s.Kinds, eventsv1.EventKind_EVENT_KIND_MESSAGE)
	}
	return s
}

// heard is a response of a hub, or the end of its stream.
type heard struct {
	addr     string
	response *eventsv1.SubscribeResponse
	err      error
}

// watchHubs prints the events of hubs until all streams have ended. It returns nil if ctx ends
// before.
func (c *eventsTailCmd) watchHubs(
	ctx context.Context, t *terminal.Terminal, hubs []*dial.Client,
) error {
	ctx, cancel := context.WithCancel(ctx)
	var streams sync.WaitGroup
	defer streams.Wait()
	defer cancel()
	all := make(chan heard)
	for _, hub := range hubs {
		streams.Go(func() { relayEvents(ctx, hub, c.newSubscription(), all) })
	}
	p := &eventPrinter{t: t, json: c.JSON}
	var failed error
	for left := len(hubs); left > 0; {
		select {
		case <-ctx.Done():
			return nil
		case h := <-all:
			switch {
			case ctx.Err() != nil:
				return nil
			case h.err == nil:
				if err := p.printResponse(h.addr, h.response); err != nil {
					return err
				}
				continue
			}
			left--
			if failed = h.err; left > 0 {
				t.ReportError(failed) // the others go on
			}
		}
	}
	return failed
}

// relayEvents passes on the responses to a subscription and the end of its stream, until ctx ends.
func relayEvents(ctx context.Context, c *dial.Client, s *eventsv1.Subscription, to chan<- heard) {
	tell := func(h heard) bool {
		h.addr = c.Flags.Addr
		select {
		case to <- h:
			return true
		case <-ctx.Done():
			return false
		}
	}
	err := subscribeEvents(ctx, c, s, func(r *eventsv1.SubscribeResponse) bool {
		return tell(heard{response: r})
	})
	tell(heard{err: c.WordError(err, c.Flags.Timeout)})
}

// errStreamEnded is the error of a stream that a hub ended without an error.
var errStreamEnded = errors.New("the hub ended the stream")

// subscribeEvents calls f for each response until f returns false. The first response must come in
// time.
func subscribeEvents(
	ctx context.Context, c *dial.Client, s *eventsv1.Subscription,
	f func(*eventsv1.SubscribeResponse) bool,
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(c.Flags.Timeout, func() { cancel(dial.ErrSilent) })
	defer silence.Stop()
	stream, err := eventsv1.NewEventServiceClient(c).Subscribe(ctx)
	if err != nil {
		return causeOr(ctx, err)
	}
	// otherwise Recv returns the error
	if stream.Send(&eventsv1.SubscribeRequest{Subscription: s}) == nil {
		_ = stream.CloseSend()
	}
	for {
		r, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return errStreamEnded
		case err != nil:
			return causeOr(ctx, err)
		}
		silence.Stop()
		if !f(r) {
			return nil
		}
	}
}

// eventPrinter prints events, a line each.
type eventPrinter struct {
	t    *terminal.Terminal
	json bool
	user int // the widest user so far
}

func (p *eventPrinter) printResponse(addr string, r *eventsv1.SubscribeResponse) error {
	if s := r.GetSubscribed(); s != nil {
		p.t.PrintNote("watching hub %s at %s; Ctrl-C ends it", s.GetHub(), addr)
	}
	var lines bytes.Buffer
	for _, e := range r.GetEvents() {
		if !p.json {
			p.appendLine(&lines, e)
			continue
		}
		b, err := protojson.Marshal(e)
		if err != nil {
			return fmt.Errorf("print an event: %w", err)
		}
		if err := json.Compact(&lines, b); err != nil { // protojson varies its blanks on purpose
			return fmt.Errorf("print an event: %w", err)
		}
		lines.WriteByte('\n')
	}
	if _, err := lines.WriteTo(p.t.Stdout); err != nil {
		return fmt.Errorf("print an event: %w", err)
	}
	if r.GetGoingAway() != nil {
		p.t.PrintNote("the hub at %s is going away", addr)
	}
	return nil
}

const (
	eventTime    = "15:04:05.000"
	usualUser    = 10 // columns of a terminal
	widestUser   = 24 // --json shows all
	widestDetail = 200
	kindWidth    = len("disconnected")
	hubWidth     = 8 // characters of a hub's id
)

func (p *eventPrinter) appendLine(to *bytes.Buffer, e *eventsv1.Event) {
	kind, detail, paint := p.eventWords(e)
	user := terminal.ShortenText(terminal.MakePrintable(cmp.Or(e.GetUser(), "-")), widestUser)
	p.user = max(p.user, usualUser, runewidth.StringWidth(user))
	_, _ = fmt.Fprintf(to, "%s  %s  %s  %s  %s  %s\n",
		p.t.Out.DimText(e.GetTime().AsTime().In(p.t.Now().Location()).Format(eventTime)),
		paint(runewidth.FillRight(kind, kindWidth)),
		runewidth.FillRight(terminal.MakePrintable(cmp.Or(e.GetHub(), "-")), hubWidth),
		terminal.MakePrintable(e.GetConnection()), runewidth.FillRight(user, p.user),
		terminal.ShortenText(terminal.MakePrintable(detail), widestDetail))
}

// eventWords words an event.
func (p *eventPrinter) eventWords(
	e *eventsv1.Event,
) (kind, detail string, paint func(string) string) {
	switch k := e.GetKind().(type) {
	case *eventsv1.Event_Connected:
		return "connected", e.GetProtocol() + " from " + k.Connected.GetRemoteAddress(),
			p.t.Out.GreenText
	case *eventsv1.Event_Message:
		return "message", k.Message.GetName() + "  " + payloadWords(k.Message), p.t.Out.CyanText
	case *eventsv1.Event_Disconnected:
		d := k.Disconnected
		detail = strings.ToLower(strings.TrimPrefix(d.GetCause().String(), "DISCONNECT_CAUSE_"))
		if d.GetCode() > 0 {
			detail += fmt.Sprintf(" %d", d.GetCode())
		}
		if d.GetReason() != "" {
			detail += fmt.Sprintf(" %q", d.GetReason())
		}
		return "disconnected", detail, p.t.Out.YellowText
	case *eventsv1.Event_Gap:
		reason := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(k.Gap.GetReason().String(),
			"GAP_REASON_")), "_", " ")
		return "gap", terminal.CountNoun(k.Gap.GetCount(), "message") + " missing: " + reason,
			p.t.Out.RedText
	default:
		return "unknown", "a kind that this connhub does not know", p.t.Out.DimText
	}
}

func payloadWords(m *eventsv1.Message) string {
	switch p := m.GetPayload().(type) {
	case *eventsv1.Message_Text:
		return p.Text
	case *eventsv1.Message_Json:
		return p.Json
	case *eventsv1.Message_Binary:
		return terminal.CountNoun(len(p.Binary), "byte")
	case *eventsv1.Message_Protobuf:
		return terminal.CountNoun(len(p.Protobuf), "byte")
	default:
		return ""
	}
}
