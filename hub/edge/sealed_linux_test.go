package edge_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/hub/cause"
	"github.com/connhub/connhub/hub/edge"
)

// Types of TLS records and of handshake messages (RFC 8446 §4, §5.1).
const (
	recordHandshake   = 22
	recordApplication = 23
	keyUpdate         = 24
)

// sealer writes records of TLS 1.3 with AES-128-GCM as a client after its handshake: crypto/tls has
// no way to ask for keys.
type sealer struct {
	t      *testing.T
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	count  uint64 // of records with these keys
}

// rekey takes the keys of a secret (RFC 8446 §7.3).
func (s *sealer) rekey(secret []byte) {
	s.t.Helper()
	block, err := aes.NewCipher(s.expand(secret, "key", 16))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.aead, err = cipher.NewGCM(block); err != nil {
		s.t.Fatal(err)
	}
	s.secret, s.iv, s.count = secret, s.expand(secret, "iv", 12), 0
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
func (s *sealer) expand(secret []byte, label string, size int) []byte {
	s.t.Helper()
	info := binary.BigEndian.AppendUint16(nil, uint16(size))
	info = append(append(info, byte(len("tls13 "+label))), "tls13 "+label+"\x00"...)
	key, err := hkdf.Expand(sha256.New, secret, string(info), size)
	if err != nil {
		s.t.Fatal(err)
	}
	return key
}

// appendRecord appends a record (RFC 8446 §5.2).
func (s *sealer) appendRecord(dst []byte, kind byte, content string) []byte {
	nonce := bytes.Clone(s.iv)
	for i := range 8 {
		nonce[len(nonce)-1-i] ^= byte(s.count >> (8 * i))
	}
	s.count++
	inner := append([]byte(content), kind)
	head := binary.BigEndian.AppendUint16([]byte{recordApplication, 3, 3},
		uint16(len(inner)+s.aead.Overhead()))
	return s.aead.Seal(append(dst, head...), nonce, inner, head)
}

// appendKeyUpdate appends a change of keys that asks the hub for a change too (RFC 8446 §4.6.3).
func (s *sealer) appendKeyUpdate(dst []byte) []byte {
	dst = s.appendRecord(dst, recordHandshake, string([]byte{keyUpdate, 0, 0, 1, 1}))
	s.rekey(s.expand(s.secret, "traffic upd", sha256.Size))
	return dst
}

// sealedClient connects a client over TLS 1.3. It returns the client's socket and its sealer.
func (b *bed) sealedClient(address string) (*net.TCPConn, *sealer) {
	b.t.Helper()
	dialer := net.Dialer{Control: narrow}
	conn, err := dialer.DialContext(b.t.Context(), "tcp", address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = conn.Close() })
	var keys bytes.Buffer
	client := tls.Client(conn, &tls.Config{
		RootCAs: certificate().RootCAs, ServerName: "hub.test", MinVersion: tls.VersionTLS13,
		KeyLogWriter: &keys,
	})
	if err := client.HandshakeContext(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	if got := client.ConnectionState().CipherSuite; got != tls.TLS_AES_128_GCM_SHA256 {
		b.t.Fatalf("cipher suite %#x: the test knows TLS_AES_128_GCM_SHA256 alone", got)
	}
	_, line, _ := strings.Cut(keys.String(), "CLIENT_TRAFFIC_SECRET_0 ")
	line, _, _ = strings.Cut(line, "\n")
	_, secret, _ := strings.Cut(line, " ")
	raw, err := hex.DecodeString(secret)
	if err != nil {
		b.t.Fatal(err)
	}
	s := &sealer{t: b.t}
	s.rekey(raw)
	return conn.(*net.TCPConn), s
}

// A client that has TLS answer, and reads no answer, can't have the hub keep them: its link ends.
func TestClientThatAsksForKeysAndReadsNothingIsClosed(t *testing.T) {
	l := listen(t)
	b := onLoopback(t, edge.NewTLSListener(l, certificate()),
		func(context.Context) (net.Conn, error) { return nil, net.ErrClosed },
		[]setup{shortClose})
	conn, s := b.sealedClient(l.Addr().String())
	request := s.appendRecord(nil, recordApplication, "GET /ws HTTP/1.1\r\n"+upgradeHeader+"\r\n")
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	b.waitAttached(1)
	message := masked(0x81, "x")
	const most = 400_000 // far more answers than the kernel has room for
	for n := 0; len(b.causes.all()) == 0; n += 100 {
		if n > most {
			t.Fatalf("%d answers were not read, and the link is there", n)
		}
		var records []byte
		for range 100 {
			records = s.appendRecord(s.appendKeyUpdate(records), recordApplication, message)
		}
		if _, err := conn.Write(records); err != nil {
			break // the hub has ended it
		}
	}
	waitUntilEmpty(b)
	want := cause.Slow.CloseStatus()
	want.Reason = "too slow: answers of TLS are not read"
	if diff := cmp.Diff([]cause.CloseStatus{want}, b.causes.all()); diff != "" {
		t.Errorf("closes (-want +got):\n%s", diff)
	}
	eventually(t, func() bool { return b.metric("connhub_links") == 0 })
}

// A client that asks for keys, and reads, stays.
func TestClientThatAsksForKeysAndReadsStays(t *testing.T) {
	l := listen(t)
	b := onLoopback(t, edge.NewTLSListener(l, certificate()),
		func(context.Context) (net.Conn, error) { return nil, net.ErrClosed },
		[]setup{shortClose})
	conn, s := b.sealedClient(l.Addr().String())
	if _, err := conn.Write(s.appendRecord(nil, recordApplication,
		"GET /ws HTTP/1.1\r\n"+upgradeHeader+"\r\n")); err != nil {
		t.Fatal(err)
	}
	b.waitAttached(1)
	go func() {
		for p := make([]byte, 64<<10); ; {
			if _, err := conn.Read(p); err != nil {
				return
			}
		}
	}()
	const rounds, each = 200, 10
	for range rounds {
		var records []byte
		for range each {
			records = s.appendRecord(s.appendKeyUpdate(records), recordApplication,
				masked(0x81, "x"))
		}
		if _, err := conn.Write(records); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() bool {
		return b.metric("connhub_client_messages_total", "kind", "text", "protocol",
			"plain") == rounds*each
	})
	if got := b.causes.all(); len(got) != 0 {
		t.Errorf("closed with %+v", got)
	}
}

// narrow makes a client's kernel keep as little as it can of unread bytes.
func narrow(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1)
	})
	return errors.Join(err, failed)
}
