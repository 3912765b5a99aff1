package dial

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/connhub/connhub/cli/terminal"
)

// PrintJSON prints an answer as protobuf JSON, zeros included. It lays the text out again, because
// protojson varies its blanks on purpose.
func PrintJSON(t *terminal.Terminal, m proto.Message) error {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	var out bytes.Buffer
	if err := json.Indent(&out, b, "", "  "); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(t.Stdout)
	return err
}

// PrintJSONLine prints an answer of many as PrintJSON does, in a line of its own.
func PrintJSONLine(t *terminal.Terminal, m proto.Message) error {
	b, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, b); err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(t.Stdout)
	return err
}

// AskAndShow runs a command that asks a hub once and prints the answer: with show, or with --json
// as JSON.
func AskAndShow[R proto.Message](
	ctx context.Context, t *terminal.Terminal, f *Flags,
	ask func(context.Context, *Client) (R, error), show func(R),
) error {
	return f.WithClient(func(hub *Client) error {
		var answer R
		err := hub.InvokeWithin(ctx, 0, func(ctx context.Context) (err error) {
			answer, err = ask(ctx, hub)
			return err
		})
		switch {
		case err != nil:
			return err
		case f.JSON:
			return PrintJSON(t, answer)
		}
		show(answer)
		return nil
	})
}
