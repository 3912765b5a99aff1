package form

import (
	"fmt"
	"strings"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

func text(s string) *controlv1.Message {
	return &controlv1.Message{Payload: &controlv1.Message_Text{Text: s}}
}

func users(names ...string) *controlv1.Target { return &controlv1.Target{Users: names} }

func to(target *controlv1.Target, words string) *controlv1.SendRequest {
	return &controlv1.SendRequest{Target: target, Message: text(words)}
}

// batch returns a request of a SendStream, with the sequences from a number on.
func batch(from int64, sends ...*controlv1.SendRequest) *controlv1.SendStreamRequest {
	req := &controlv1.SendStreamRequest{}
	for i, send := range sends {
		req.Sends = append(
			req.Sends, &controlv1.StreamedSend{Sequence: from + int64(i), Send: send},
		)
	}
	return req
}

// long is a name of n bytes.
func long(n int) string { return strings.Repeat("n", n) }

// many returns n names.
func many(n, bytes int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%0*d", bytes, i)
	}
	return names
}
