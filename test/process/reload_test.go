package process

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"

	"github.com/connhub/connhub/internal/testkit"
	"github.com/connhub/connhub/test/bed"
)

// writeKeySet writes a set with a single new public key.
func writeKeySet(t *testing.T, path string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := private.PublicKey.Bytes() // 0x04, then both coordinates
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "one",
		"x": base64.RawURLEncoding.EncodeToString(point[1:33]),
		"y": base64.RawURLEncoding.EncodeToString(point[33:]),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, set, 0o600); err != nil {
		t.Fatal(err)
	}
}

// waitForLines waits until the log has so many lines with a message, and returns the last.
func waitForLines(
	t *testing.T, log *testkit.LockedBuffer, message string, lines int,
) map[string]any {
	t.Helper()
	var last map[string]any
	came := testkit.Holds(t, func() bool {
		found := 0
		for line := range strings.Lines(log.String()) {
			var attrs map[string]any
			if json.Unmarshal([]byte(line), &attrs) == nil && attrs["msg"] == message {
				last = attrs
				found++
			}
		}
		return found >= lines
	})
	if !came {
		t.Fatalf("not %d lines %q in the log:\n%s", lines, message, log)
	}
	return last
}

func TestSIGHUPHasFilesReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := testkit.WriteCertificate(t, dir, "first")
	keySet := dir + "/jwks.json"
	writeKeySet(t, keySet)
	p := bed.StartReady(t, bed.ServeArgs(t, "--tls-cert-file="+certFile, "--tls-key-file="+keyFile,
		"--control-tls-cert-file="+certFile, "--control-tls-key-file="+keyFile,
		"--token-jwks="+keySet)...)
	p.ExpectErrors(
		"certificate not reloaded, the old one stays",
		"public keys of client tokens not read; the last keys stay valid",
	)
	hangUp := func(times int, read, failed []any) {
		t.Helper()
		p.Signal(t, syscall.SIGHUP)
		got := waitForLines(t, p.Log, "SIGHUP: read again what can be", times)
		if diff := cmp.Diff([]any{read, failed}, []any{got["read"], got["failed"]}); diff != "" {
			t.Errorf("SIGHUP %d: %s", times, diff)
		}
	}
	served := func() string {
		t.Helper()
		// It looks at the certificate, nothing else.
		dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		conn, err := dialer.DialContext(t.Context(), "tcp", p.Clients)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	}

	all, none := []any{certFile, "--token-jwks"}, []any{} // both ports share the certificate
	// nothing has changed, and that does no harm
	hangUp(1, all, none)
	testkit.WriteCertificate(t, dir, "second")
	writeKeySet(t, keySet)
	hangUp(2, all, none)
	waitForLines(t, p.Log, "public keys of client tokens read", 2) // well before its interval
	waitForLines(t, p.Log, "certificate reloaded", 4)              // and no client has come
	if got := served(); got != "second" {
		t.Errorf("clients are shown the certificate %q", got)
	}

	for _, path := range []string{certFile, keySet} {
		if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hangUp(3, none, all)
	if got := served(); got != "second" {
		t.Errorf("with broken files clients are shown the certificate %q", got)
	}
	p.Signal(t, syscall.SIGTERM)
	if code := p.ExitCode(t, 10*time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
}

func TestSIGHUPDoesNotEndAHub(t *testing.T) {
	t.Parallel()
	for command, args := range commandLines(t) {
		t.Run(command, func(t *testing.T) {
			p := bed.StartReady(t, args...)
			client := testkit.DialClient(t, p.Clients, "user=ann")
			for i := range 3 {
				p.Signal(t, syscall.SIGHUP)
				waitForLines(t, p.Log, "SIGHUP: read again what can be", i+1)
			}
			requireServing(t, p, client, "after SIGHUP")
			p.Signal(t, syscall.SIGTERM)
			requireStop(t, p, client)
		})
	}
}

// openTerminal opens a pseudo terminal (pts(4)) and returns its two ends.
func openTerminal(t *testing.T) (window, program *os.File) {
	t.Helper()
	window, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = window.Close() })
	var locked, number int32
	for request, argument := range map[uintptr]*int32{
		syscall.TIOCSPTLCK: &locked, syscall.TIOCGPTN: &number,
	} {
		if _, _, errno := syscall.Syscall(
			syscall.SYS_IOCTL, window.Fd(), request, uintptr(unsafe.Pointer(argument)),
		); errno != 0 {
			t.Fatal(errno)
		}
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return window, program
}

func TestHubStopsInOrderWhenItsTerminalIsClosed(t *testing.T) {
	t.Parallel()
	// A hub that is started with SIGHUP ignored outlives its terminal. So it must not inherit that
	// from nohup around the tests. A program that is started gets the default of a handled signal.
	handled := make(chan os.Signal, 1)
	signal.Notify(handled, syscall.SIGHUP)
	t.Cleanup(func() { signal.Stop(handled) })
	for command, args := range commandLines(t) {
		t.Run(command, func(t *testing.T) {
			window, program := openTerminal(t)
			command := bed.Command(t, args...)
			command.Stdin = program
			command.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
			p := bed.StartCommand(t, command)
			p.Await(t, p.Ready)
			client := testkit.DialClient(t, p.Clients, "user=ann")

			p.Signal(t, syscall.SIGHUP) // the terminal is there
			waitForLines(t, p.Log, "SIGHUP: read again what can be", 1)
			_ = window.Close() // the kernel sends SIGHUP
			requireStop(t, p, client)
			waitForLines(t, p.Log, "the terminal is gone", 1)
		})
	}
}
