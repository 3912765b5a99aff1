package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// callError is a call to a hub that failed.
type callError struct {
	err   error
	addr  string
	limit time.Duration
	dial  error // why the last dial failed; nil if it did not
}

func (e *callError) Unwrap() error { return e.err }

// Error says it in one line: what, which field is wrong, and the reason that programs go by.
func (e *callError) Error() string {
	s := status.Convert(e.err)
	var info *errdetails.ErrorInfo
	var fields []string
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			info = d
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				fields = append(fields, v.GetField()+": "+v.GetDescription())
			}
		}
	}
	if info == nil {
		return e.transportWords(s)
	}
	text := s.Message()
	if len(fields) > 0 {
		text = strings.Join(fields, "; ")
	}
	line := fmt.Sprintf("%s: %s (%s)", codeWords(s.Code()), makePrintable(text), info.GetReason())
	if hint := hints[info.GetReason()]; hint != "" {
		line += ". " + hint
	}
	return line
}

// hints say what to do about an error of the API.
var hints = map[string]string{
	"CREDENTIALS_INVALID": "Give the secret with --secret-file or CONNHUB_SECRET_FILE",
	"NO_SIGNING_KEY":      "Start the hub with --token-key-file",
	"TOO_MANY_MATCHED":    "Nothing was done; raise --max-matched if you mean it",
}

// transportWords words an error that did not come from a hub's handler.
func (e *callError) transportWords(s *status.Status) string {
	switch s.Code() {
	case codes.Canceled:
		return "interrupted"
	case codes.DeadlineExceeded:
		if e.dial == nil {
			return fmt.Sprintf("no answer from %s within %v", e.addr, e.limit)
		}
	case codes.Unavailable:
		if e.dial == nil {
			return fmt.Sprintf("no hub at the other end of %s: %s%s",
				e.addr, handshakeWords(s.Message()), handshakeHint(s.Message()))
		}
	case codes.Unauthenticated, codes.PermissionDenied:
		return fmt.Sprintf("%s: %s", codeWords(s.Code()), s.Message())
	default:
		return fmt.Sprintf("%s: %s (%s)", e.addr, s.Message(), codeWords(s.Code()))
	}
	hint := devHint(" Try: connhub dev")
	return fmt.Sprintf("can't reach %s: %s. Is a hub running?%s", e.addr, dialWords(e.dial), hint)
}

// handshakeHint returns a sentence of advice if only a single end talks TLS, else an empty text. It
// goes by gRPC's text, because gRPC passes no error on.
func handshakeHint(text string) string {
	switch {
	case strings.Contains(text, "first record does not look like a TLS handshake"):
		return ". If the hub has no TLS, leave out --tls and --tls-ca-file"
	case strings.Contains(text, "reading server preface") && !strings.Contains(text, "HTTP/1"):
		return ". If the hub has TLS, use --tls" // its port closes after bytes without TLS
	default:
		return ""
	}
}

// handshakeWords takes the cause of a connection that failed after it was made out of gRPC's text for it.
func handshakeWords(text string) string {
	if _, quoted, ok := strings.Cut(text, "desc = "); ok {
		if plain, err := strconv.Unquote(quoted); err == nil {
			text = plain
		}
	}
	return strings.TrimPrefix(text, "transport: ")
}

// dialWords drops what net puts around the cause of a failed dial.
func dialWords(err error) string {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		if dns.IsNotFound {
			return "no such host " + dns.Name
		}
		return "looking up " + dns.Name + ": " + dns.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}

// codeWords is a status code as people say it: "invalid argument".
func codeWords(c codes.Code) string {
	var b strings.Builder
	for i, r := range c.String() { // "InvalidArgument"
		if i > 0 && r >= 'A' && r <= 'Z' {
			b.WriteByte(' ')
		}
		b.WriteRune(r)
	}
	return strings.ToLower(b.String())
}

// errorWords words any error of a command. Several problems get a line each.
func errorWords(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}
