package tally

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

const (
	// LastWord is the text after which a member counts no further messages.
	LastWord = "end"
	// Ignored is a text that no member counts.
	Ignored = "ignored"
)

// Member is a client of a Crowd, with the messages that it has got.
type Member struct {
	*bed.Client // nil before Crowd.Connect

	// Owned by the test.
	Index     int            // in Crowd.Members
	ID        string         // of the connection, set by Crowd.Identify
	Hub       string         // that has the connection, set by Crowd.Identify
	Namespace string         // that it is in
	User      string         // whose connection it is
	Groups    []string       // that it joins by its token
	Protocol  string         // subprotocol, may be empty
	Heard     chan time.Time // takes the time of each message while there is room; nil: not wanted
	late      []string       // messages that may come behind the last word

	// Owned by the reading goroutine until AwaitEnd has returned.
	Got    [Callers][]int // the numbers that each caller gave its messages, in the order of arrival
	Frames int            // messages, the last word not counted

	// Owned by the reading goroutine until Crowd.AwaitReaders has returned.
	Strays []string // unexpected messages, and messages behind the last word
	Err    error    // how the connection ended
	over   bool     // the last word has come

	ended chan struct{} // closed at the last word, or when the connection is over
}

// readAll counts messages until the connection ends.
func (m *Member) readAll() {
	m.Err = m.Read(m.takeMessage)
	if !m.over {
		close(m.ended)
	}
}

// takeMessage counts a message: "CALLER NUMBER" or "CALLER NUMBER PADDING".
func (m *Member) takeMessage(message []byte) {
	text, ok := textOf(m.Protocol, message)
	switch {
	case !ok && strings.HasPrefix(string(message), `{"type":"connected"`):
	case ok && text == Ignored:
	case m.over && text == LastWord: // said again, to others
	case !ok || m.over:
		m.Strays = append(m.Strays, string(message))
	case text == LastWord:
		m.over = true
		close(m.ended)
	default:
		m.countText(text)
	}
}

func (m *Member) countText(text string) {
	caller, rest, _ := strings.Cut(text, " ")
	number, _, _ := strings.Cut(rest, " ")
	who, err1 := strconv.Atoi(caller)
	n, err2 := strconv.Atoi(number)
	if errors.Join(err1, err2) != nil || who >= Callers {
		m.Strays = append(m.Strays, text)
		return
	}
	m.Got[who] = append(m.Got[who], n)
	m.Frames++
	select {
	case m.Heard <- time.Now():
	default:
	}
}

// AwaitEnd waits until each member has heard the last word, or is gone.
func AwaitEnd(t *testing.T, members []*Member) {
	t.Helper()
	for _, m := range members {
		testkit.Receive(t, m.User+" hears the last word", m.ended)
	}
}

// MayStillGet adds messages of a caller with an unknown fate. They may come, each once, behind the
// last word: another caller says it, and it takes a different way.
func (m *Member) MayStillGet(caller int, numbers []int) {
	for _, n := range numbers {
		m.late = append(m.late, fmt.Sprint(caller, " ", n))
	}
}

// textOf returns the text in a message of a protocol; false: it is no message of a backend.
func textOf(protocol string, message []byte) (string, bool) {
	text := string(message)
	if protocol == "" {
		return text, true
	}
	// Tests' texts need no escapes.
	_, data, ok := strings.Cut(text, `"dataType":"text","data":"`)
	if !ok {
		return "", false
	}
	return strings.TrimSuffix(data, `"}`), true
}
