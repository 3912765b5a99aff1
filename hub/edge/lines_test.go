package edge_test

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coder/websocket"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/framing"
	"github.com/connhub/connhub/hub/edge/plain"
	"github.com/connhub/connhub/hub/edge/protocol"
)

// A second framing: each message is a line of text. It lives in the tests and has links of its own
// (linelink_test.go). If a protocol needs a change for it, the protocol knows too much.
//
// A line begins with the kind of the message and ends with a line feed. A close is a line, too:
//
//	t text    b binary    c code reason
//
// A line feed in a message is written \n, and a backslash \\.
const (
	lineText   = 't'
	lineBinary = 'b'
	lineClose  = 'c'
)

// lines has each message in a line.
type lines struct{ framing.Base }

// numberedLines is lines for a protocol.Numbered. The shared bytes are the end of a line.
type numberedLines struct {
	framing.Base

	numbering protocol.Numbering
}

var (
	_ framing.Framed = (*lines)(nil)
	_ framing.Framed = (*numberedLines)(nil)
	_ hub.Numbered   = (*numberedLines)(nil)
)

// joinLines joins p with lines of text.
func joinLines(p protocol.Protocol) framing.Framed {
	base := framing.NewBase(p, appendLine)
	if n, ok := p.(protocol.Numbered); ok {
		return &numberedLines{base, n.Numbering()}
	}
	return &lines{base}
}

func (l *lines) Encode(m *hub.Message, r hub.Route) []byte {
	message, kind := l.AppendMessage(nil, m, r)
	return appendLine(nil, kind, message)
}

func (l *numberedLines) Encode(m *hub.Message, r hub.Route) []byte {
	message, _ := l.AppendMessage(nil, m, r)
	return append(appendEscaped(nil, message), '\n')
}

func (l *numberedLines) AppendPrefix(dst []byte, sequence uint64, _ []byte) []byte {
	n := l.numbering
	dst = append(dst, lineKind(n.Kind))
	return appendEscaped(dst, fmt.Append(nil, n.Before, sequence, n.After))
}

// appendLine appends a whole message.
func appendLine(dst []byte, kind hub.PayloadKind, message []byte) []byte {
	return append(appendEscaped(append(dst, lineKind(kind)), message), '\n')
}

func lineKind(kind hub.PayloadKind) byte {
	if kind.IsText() {
		return lineText
	}
	return lineBinary
}

func appendEscaped(dst, message []byte) []byte {
	message = bytes.ReplaceAll(message, []byte(`\`), []byte(`\\`))
	return append(dst, bytes.ReplaceAll(message, []byte("\n"), []byte(`\n`))...)
}

var unescaper = strings.NewReplacer(`\\`, `\`, `\n`, "\n")

// appendClose appends the line that ends a link.
func appendClose(dst []byte, code uint16, reason string) []byte {
	line := fmt.Sprintf("%d %s", code, reason)
	return append(appendEscaped(append(dst, lineClose), []byte(line)), '\n')
}

// parseLine returns the message of a line that is whole. The error of a close is a
// websocket.CloseError: it has a code and a reason, as tests want them.
func parseLine(line []byte) (websocket.MessageType, []byte, error) {
	rest := unescaper.Replace(string(line[1 : len(line)-1]))
	switch line[0] {
	case lineText:
		return websocket.MessageText, []byte(rest), nil
	case lineBinary:
		return websocket.MessageBinary, []byte(rest), nil
	default:
		digits, reason, _ := strings.Cut(rest, " ")
		code, err := strconv.Atoi(digits)
		if line[0] != lineClose || err != nil {
			return 0, nil, fmt.Errorf("not a line: %q", line)
		}
		return 0, nil, websocket.CloseError{Code: websocket.StatusCode(code), Reason: reason}
	}
}

// statusOf returns how a link ended whose reader failed.
func statusOf(err error) cause.CloseStatus {
	how := cause.Lost.CloseStatus()
	if closed, ok := errors.AsType[websocket.CloseError](err); ok {
		how.Cause, how.Code, how.Reason = cause.Client, uint16(closed.Code), closed.Reason
	}
	return how
}

// countingPlain is the plain protocol, and counts the messages that it yields.
type countingPlain struct {
	plain.Protocol

	yielded *atomic.Int64
}

func (p countingPlain) AppendMessage(
	dst []byte, m *hub.Message, r hub.Route,
) ([]byte, hub.PayloadKind) {
	p.yielded.Add(1)
	return p.Protocol.AppendMessage(dst, m, r)
}

// Clients of a protocol on links of two kinds get the same message. It is encoded once for each
// kind, for however many clients.
func TestMessageIsEncodedOnceForEachFraming(t *testing.T) {
	p := countingPlain{yielded: new(atomic.Int64)}
	onLines(t, func(t *testing.T, b *bed) {
		all := []Conn{b.dial(""), b.dial(""), b.open(""), b.open("")}
		b.waitAttached(len(all))
		for i, sent := range []string{"one\nline", `two\n`, ""} {
			if r := b.send(everyone, hub.Text, sent); r.Matched != len(all) {
				t.Errorf("receipt %+v", r)
			}
			for _, c := range all {
				if kind, got := read(t, c); kind != websocket.MessageText || got != sent {
					t.Errorf("got %v %q, want %q", kind, got, sent)
				}
			}
			if n := p.yielded.Load(); n != int64(2*(i+1)) {
				t.Errorf("%d messages were yielded for %d", n, i+1)
			}
		}
	}, func(_ *hub.Config, c *edge.Config) { c.Plain = p })
}
