package opening

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/connhub/connhub/hub/edge/lobby"
)

// headBytes is the longest head of a request, in bytes, that Read parses itself. The heads of
// browsers and SDKs with a token are shorter. net/http reads a longer head, up to its own limit.
const headBytes = 4 << 10

var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, headBytes) }}

// Read reads the first request of a stranger from conn, within timeout. It returns the request if
// it asks for a WebSocket and serves returns true for its path. For any different request it
// returns rest, for net/http's server. mayWait is called before Read waits for more of a request
// that has begun. If mayWait returns false, or the client sends no request, Read returns an error,
// and the caller must close conn.
func Read(
	conn net.Conn, s *lobby.Stranger, timeout time.Duration, serves func(path string) bool,
	mayWait func() bool,
) (r *Request, rest net.Conn, err error) {
	limit := time.Now().Add(timeout)
	if err := conn.SetReadDeadline(limit); err != nil {
		return nil, nil, err //nolint:wrapcheck // is the socket
	}
	in := readers.Get().(*bufio.Reader)
	in.Reset(conn)
	head, err := readHead(in, mayWait)
	if err != nil {
		recycleReader(in)
		return nil, nil, err
	}
	again := bytes.Clone(head) // http.ReadRequest changes the case of names in the buffer
	if mayBeUpgrade(head) {
		if parsed, err := http.ReadRequest(in); err == nil && mayServe(parsed) &&
			serves(parsed.URL.Path) {
			return newRequest(conn, s, parsed, in), nil, nil
		}
	}
	rest = &Replayed{Conn: conn, again: again, limit: limit}
	recycleReader(in)
	return nil, rest, nil
}

func recycleReader(in *bufio.Reader) {
	in.Reset(nil)
	readers.Put(in)
}

// errAbandoned is the error for a request that mayWait gives up.
var errAbandoned = errors.New("the hub waits for no further requests")

// readHead reads until in has the whole head of a request, or bytes that are for net/http. It
// returns the buffered bytes. They stay in in, and are valid until its next read.
func readHead(in *bufio.Reader, mayWait func() bool) ([]byte, error) {
	for {
		_, err := in.Peek(in.Buffered() + 1)
		head, _ := in.Peek(in.Buffered()) // can't fail: the bytes are buffered
		switch {
		case err == nil && !isComplete(head):
			if !mayWait() {
				return nil, errAbandoned
			}
		case err == nil, errors.Is(err, bufio.ErrBufferFull),
			errors.Is(err, io.EOF) && len(head) > 0: // net/http answers half a request
			return head, nil
		default:
			return nil, err //nolint:wrapcheck // is the socket
		}
	}
}

// The first line of a request that can be an upgrade.
const (
	linePrefix = "GET /"
	lineSuffix = " HTTP/1.1"
)

// isComplete reports whether head needs no more bytes: it has an empty line, or it can't be an
// upgrade.
func isComplete(head []byte) bool {
	if n := min(len(head), len(linePrefix)); string(head[:n]) != linePrefix[:n] {
		return true
	}
	line, _, ended := bytes.Cut(head, []byte("\n"))
	if !ended {
		return false
	}
	return !bytes.HasSuffix(bytes.TrimSuffix(line, []byte("\r")), []byte(lineSuffix)) ||
		mayBeUpgrade(head)
}

// mayBeUpgrade reports whether http.ReadRequest finds the whole head of a GET in head.
func mayBeUpgrade(head []byte) bool {
	return bytes.HasPrefix(head, []byte(linePrefix)) &&
		(bytes.Contains(head, []byte("\n\r\n")) || bytes.Contains(head, []byte("\n\n")))
}

// mayServe reports whether a request asks for a WebSocket, and has nothing that net/http's server
// answers in place of its handler.
func mayServe(r *http.Request) bool {
	if r.Method != http.MethodGet || r.Proto != "HTTP/1.1" || r.URL.Host != "" || r.Host == "" ||
		!httpguts.ValidHostHeader(r.Host) || lobby.HasBody(r) || r.Header.Get("Expect") != "" {
		return false
	}
	for name, values := range r.Header {
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return false
			}
		}
	}
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// Replayed is a connection for net/http's server. Its bytes come again, and it has no more time
// than before for its first request.
type Replayed struct {
	net.Conn

	again []byte    // owned by the goroutine that reads
	limit time.Time // of the request; static
}

// Read returns the bytes that were read before, and then further bytes.
func (r *Replayed) Read(b []byte) (int, error) {
	if len(r.again) == 0 {
		return r.Conn.Read(b) //nolint:wrapcheck // net/http looks at it
	}
	n := copy(b, r.again)
	r.again = r.again[n:]
	return n, nil
}

// SetReadDeadline sets the deadline of reads, or an earlier deadline: a client that has sent the
// beginning of its request must not get the time for a whole request again.
func (r *Replayed) SetReadDeadline(t time.Time) error {
	if t.After(r.limit) {
		t = r.limit
	}
	return r.Conn.SetReadDeadline(t) //nolint:wrapcheck // is the socket
}

// CloseWrite ends the sending half, if the connection has halves.
func (r *Replayed) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite() //nolint:wrapcheck // is the socket
	}
	return errors.ErrUnsupported
}

// NetConn returns the connection below. net/http has read all bytes again when it gives the
// connection away.
func (r *Replayed) NetConn() net.Conn { return r.Conn }
