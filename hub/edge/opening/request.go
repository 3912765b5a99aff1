package opening

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/connhub/connhub/hub/edge/lobby"
)

// Request is a request for a WebSocket, and the writer of its answer. The goroutine of the handler
// owns it. It must not be used after TakeConn, Hijack or Finish.
type Request struct {
	http *http.Request

	conn     net.Conn // nil: TakeConn has given it away
	stranger *lobby.Stranger
	in       *bufio.Reader // has the bytes behind the request
	context  *clientContext

	header  http.Header
	status  int // 0: not written
	body    []byte
	timeout time.Time // of the answer; zero: none
}

var (
	_ http.ResponseWriter = (*Request)(nil)
	_ http.Hijacker       = (*Request)(nil)
)

func newRequest(
	conn net.Conn, s *lobby.Stranger, parsed *http.Request, in *bufio.Reader,
) *Request {
	r := &Request{
		conn: conn, stranger: s, in: in, header: make(http.Header, answerHeaders),
		context: &clientContext{conn: conn},
	}
	r.http = parsed.WithContext(lobby.WithStranger(r.context, s))
	r.http.RemoteAddr = conn.RemoteAddr().String()
	return r
}

// answerHeaders is how many headers most answers have.
const answerHeaders = 4

// HTTP returns the request for a handler. Its context ends when the client hangs up.
func (r *Request) HTTP() *http.Request { return r.http }

// Header returns the headers of the answer.
func (r *Request) Header() http.Header { return r.header }

// WriteHeader sets the status of the answer. Only the first call counts.
func (r *Request) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
}

// Write adds to the body of the answer, which is kept in memory.
func (r *Request) Write(b []byte) (int, error) {
	r.WriteHeader(http.StatusOK)
	r.body = append(r.body, b...)
	return len(b), nil
}

// SetWriteDeadline sets the time until which the answer must be written.
func (r *Request) SetWriteDeadline(t time.Time) error {
	r.timeout = t
	return nil
}

// TakeConn writes an answer without a body, and gives the connection away, without deadlines. early
// has the bytes that the client sent behind its request. After an error the connection is closed.
func (r *Request) TakeConn() (conn net.Conn, early []byte, err error) {
	conn = r.conn
	if conn == nil {
		return nil, nil, http.ErrHijacked
	}
	r.conn = nil
	late := r.context.stopWatching()
	if n := r.in.Buffered(); n+len(late) > 0 {
		ahead, _ := r.in.Peek(n) // can't fail: the bytes are buffered
		early = append(bytes.Clone(ahead), late...)
	}
	recycleReader(r.in)
	if r.status != 0 {
		var answer bytes.Buffer
		answer.WriteString("HTTP/1.1 ")
		answer.WriteString(strconv.Itoa(r.status))
		answer.WriteByte(' ')
		answer.WriteString(http.StatusText(r.status))
		answer.WriteString("\r\n")
		_ = r.header.Write(&answer) // can't fail in memory
		answer.WriteString("\r\n")
		_ = conn.SetWriteDeadline(r.timeout) // fails on a closed connection, as Write will
		if _, err := conn.Write(answer.Bytes()); err != nil {
			_ = conn.Close()
			r.stranger.Leave(lobby.Ended)
			return nil, nil, fmt.Errorf("write answer: %w", err)
		}
	}
	r.stranger.Leave(lobby.Admitted)
	_ = conn.SetDeadline(time.Time{}) // fails on a closed connection, as the next Read will
	return conn, early, nil
}

// Hijack is TakeConn in the form of http.Hijacker.
func (r *Request) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, early, err := r.TakeConn()
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReader(io.MultiReader(bytes.NewReader(early), conn))
	if len(early) > 0 {
		_, _ = in.Peek(len(early)) // they count as buffered
	}
	return conn, bufio.NewReadWriter(in, bufio.NewWriter(conn)), nil
}

// Finish writes the answer, if the handler has not taken the connection, within timeout. It closes
// the connection: its request was the only one.
func (r *Request) Finish(timeout time.Duration) {
	conn := r.conn
	if conn == nil {
		return
	}
	r.conn = nil
	r.context.stopWatching()
	recycleReader(r.in)
	if r.status != 0 {
		answer := http.Response{
			StatusCode: r.status, ProtoMajor: 1, ProtoMinor: 1, Header: r.header, Close: true,
			Body: io.NopCloser(bytes.NewReader(r.body)), ContentLength: int64(len(r.body)),
		}
		r.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
		var text bytes.Buffer
		_ = answer.Write(&text) // can't fail in memory
		_ = conn.SetWriteDeadline(time.Now().Add(timeout))
		_, _ = conn.Write(text.Bytes()) // a client that does not read the answer has no use for it
	}
	_ = conn.Close()
	r.stranger.Leave(lobby.Ended)
}
