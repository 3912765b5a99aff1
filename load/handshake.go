package load

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6455 §4.2.2 wants it
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// maxAnswer bounds the answer to a handshake, in bytes. Servers accept about as much of a request
// line with its headers.
const maxAnswer = 8 << 10

// acceptGUID is appended to the key before the key is hashed (RFC 6455 §1.3).
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// connectClient opens the connection of client i. rest holds the bytes that the server sent behind
// its answer.
func (c *Crowd) connectClient(ctx context.Context, i int) (conn net.Conn, rest []byte, err error) {
	u, err := url.Parse(c.config.URLs[i])
	if err != nil {
		// Not err: a url.Error contains the URL, and the URL may contain a token.
		return nil, nil, errors.New("its URL is none")
	}
	to, err := c.targets.resolveTarget(ctx, u)
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.HandshakeTimeout)
	defer cancel()
	raw, err := dialTarget(ctx, to, sourceOf(i, len(c.config.URLs), to.ip))
	if err != nil {
		return nil, nil, dialError(err)
	}
	// A deadline in the past ends blocked reads and writes when ctx is done.
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	conn = raw
	if u.Scheme == "wss" {
		conn = tls.Client(raw, c.tlsConfig(u.Hostname()))
	}
	rest, err = shakeHands(conn, u)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer to its handshake: %w", ctx.Err())
		}
		return nil, nil, err
	}
	return conn, rest, nil
}

// dialTarget connects from the address source. Nil leaves the choice to the system. On loopback it
// tries a spare address if source has no port left: ports stay in use for a minute after their
// connections.
func dialTarget(ctx context.Context, to target, source net.Addr) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1, LocalAddr: source} // no keep-alive: the server pings
	conn, err := dialer.DialContext(ctx, "tcp", to.address)
	if !errors.Is(err, syscall.EADDRNOTAVAIL) || !to.ip.Is4() || !to.ip.IsLoopback() {
		return conn, err
	}
	dialer.LocalAddr = spareSource()
	return dialer.DialContext(ctx, "tcp", to.address)
}

// tlsConfig returns the configuration for a client of host.
func (c *Crowd) tlsConfig(host string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.config.TLS != nil {
		config = c.config.TLS.Clone()
	}
	if config.ServerName == "" {
		config.ServerName = host
	}
	return config
}

// shakeHands does the client's opening handshake (RFC 6455 §4.1). rest holds the bytes that the
// server sent behind its answer.
func shakeHands(conn net.Conn, u *url.URL) (rest []byte, err error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:]) // never fails: crypto/rand ends the process instead
	key := base64.StdEncoding.EncodeToString(nonce[:])
	request := "GET " + u.RequestURI() + " HTTP/1.1\r\nHost: " + u.Host +
		"\r\nConnection: Upgrade\r\nUpgrade: websocket" +
		"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + "\r\n\r\n"
	if _, err := conn.Write([]byte(request)); err != nil {
		return nil, err
	}
	answer := make([]byte, 0, 512) // a hub answers with 130 bytes
	for {
		n, err := conn.Read(answer[len(answer):cap(answer)])
		answer = answer[:len(answer)+n]
		if head, rest, ok := bytes.Cut(answer, []byte("\r\n\r\n")); ok {
			return bytes.Clone(rest), checkAnswer(head, rest, key)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("its handshake breaks off: %w", err)
		case len(answer) >= maxAnswer:
			return nil, errors.New("the answer to its handshake is too long")
		case len(answer) == cap(answer):
			answer = append(make([]byte, 0, 2*cap(answer)), answer...)
		}
	}
}

// checkAnswer returns an error unless the server accepted the handshake. body holds the bytes
// behind head; a refusal's body may be cut.
func checkAnswer(head, body []byte, key string) error {
	lines := strings.Split(string(head), "\r\n")
	version, status, _ := strings.Cut(lines[0], " ")
	if !strings.HasPrefix(version, "HTTP/1.1") {
		return errors.New("the other end does not speak HTTP")
	}
	if !strings.HasPrefix(status, "101") {
		return fmt.Errorf("refused: %s", describeRefusal(status, body))
	}
	sum := sha1.Sum([]byte(key + acceptGUID)) //nolint:gosec // RFC 6455 §4.2.2 wants it
	want := base64.StdEncoding.EncodeToString(sum[:])
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		if strings.EqualFold(name, "Sec-WebSocket-Accept") && strings.TrimSpace(value) == want {
			return nil
		}
	}
	return errors.New("the other end does not speak WebSocket")
}

// describeRefusal returns the detail of the server's problem document (RFC 9457) with the status,
// or the status alone.
func describeRefusal(status string, body []byte) string {
	var problem struct{ Detail, Reason string }
	if json.Unmarshal(body, &problem) == nil && problem.Detail != "" {
		return fmt.Sprintf("%s (%s %s)", problem.Detail, status, problem.Reason)
	}
	return status
}
