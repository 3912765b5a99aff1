package dial

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/internal/build"
	"github.com/connhub/connhub/internal/neterr"
)

// callError is the error of a call to a hub.
type callError struct {
	err   error
	addr  string
	limit time.Duration
	dial  error // of the last dial; nil if it succeeded
}

func (e *callError) Unwrap() error { return e.err }

// Error describes the failure in a single line: the code, the wrong fields, and the reason, which
// programs go by.
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
	line := fmt.Sprintf("%s: %s (%s)",
		codeWords(s.Code()), terminal.MakePrintable(text), info.GetReason())
	if hint := hints[info.GetReason()]; hint != "" {
		line += ". " + hint
	}
	return line
}

// DescribeStatus words an error of the API that came inside an answer.
func DescribeStatus(s *spb.Status) string { return (&callError{err: status.ErrorProto(s)}).Error() }

// HasReason reports whether err is an error of a call, and the hub gave this reason.
func HasReason(err error, reason controlv1.ErrorReason) bool {
	failed, ok := errors.AsType[*callError](err)
	if !ok {
		return false
	}
	want := strings.TrimPrefix(reason.String(), "ERROR_REASON_")
	for _, detail := range status.Convert(failed.err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetReason() == want {
			return true
		}
	}
	return false
}

// hints are advice for reasons of the API's errors.
var hints = map[string]string{
	"CREDENTIALS_INVALID": "Give the secret with --secret-file or CONNHUB_SECRET_FILE",
	"NO_SIGNING_KEY":      "Start the hub with --token-key-file",
	"TOO_MANY_MATCHED":    "Nothing was done; raise --max-matched to close them",
}

// transportWords words an error that no handler of a hub returned.
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
	hint := build.DevHint(" Try: connhub dev")
	return fmt.Sprintf("can't reach %s: %s. Is a hub running?%s",
		e.addr, neterr.Words(e.dial), hint)
}

// handshakeHint returns advice if only a single end talks TLS, else "". It reads gRPC's text,
// because gRPC does not pass the error on.
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

// handshakeWords takes the cause out of gRPC's text for a connection that failed after the dial.
func handshakeWords(text string) string {
	if _, quoted, ok := strings.Cut(text, "desc = "); ok {
		if plain, err := strconv.Unquote(quoted); err == nil {
			text = plain
		}
	}
	return strings.TrimPrefix(text, "transport: ")
}

// codeWords is a status code in plain words: "invalid argument".
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
