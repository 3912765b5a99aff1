package netpoll_test

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/connhub/connhub/hub/edge/netpoll"
	"github.com/connhub/connhub/internal/testkit"
)

// echo answers each line with itself.
func echo(l *liner, line string) { l.send(line + "\n") }

func wantEnd(t *testing.T, l *liner, want error) {
	t.Helper()
	<-l.ended
	if !errors.Is(l.reason, want) {
		t.Errorf("the input ended with %v, want %v", l.reason, want)
	}
}

// Each line arrives once, in order, in whatever pieces it comes. That is also a line that is longer
// than the socket's buffer.
func TestLinesArriveHoweverTheyAreCut(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	eachKind(t, time.Hour, func(t *testing.T, b *bench) {
		l, client := b.connect(echo)
		var text strings.Builder
		for range 300 {
			size := random.IntN([]int{1, 10, 600, 20_000}[random.IntN(4)])
			text.WriteString(strings.Repeat(string(rune('a'+random.IntN(26))), size) + "\n")
		}
		go func() {
			for rest := text.String(); rest != ""; {
				piece := min(len(rest), 1+random.IntN([]int{2, 100, 5000, 50_000}[random.IntN(4)]))
				if _, err := io.WriteString(client, rest[:piece]); err != nil {
					t.Error(err)
				}
				rest = rest[piece:]
			}
		}()
		got := make([]byte, text.Len())
		if _, err := io.ReadFull(client, got); err != nil || string(got) != text.String() {
			t.Errorf("the echo of %d bytes differs (%v)", text.Len(), err)
		}
		_ = client.Close()
		wantEnd(t, l, io.EOF)
	})
}

// Lines that the socket does not take at once are written when the client reads again, in order and
// once. Room in a socket that was full is a sign of life.
func TestWhatTheSocketDoesNotTakeIsWrittenLater(t *testing.T) {
	eachKind(t, time.Hour, func(t *testing.T, b *bench) {
		const lines = 400 // 40 MB: far more than the kernel has room for
		line := strings.Repeat("0123456789", 10_000) + "\n"
		l, client := b.connect(func(l *liner, _ string) {
			for range lines {
				l.send(line)
			}
		})
		if _, err := io.WriteString(client, "go\n"); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the socket is full", l.isBacklogged)
		heard := l.socket.Heard()
		r := bufio.NewReaderSize(client, len(line))
		for i := range lines {
			if got, err := r.ReadString('\n'); err != nil || got != line {
				t.Fatalf("line %d: %d bytes, %v", i, len(got), err)
			}
		}
		testkit.Eventually(t, "all is written", func() bool { return !l.isBacklogged() })
		if l.socket.Heard() == heard {
			t.Error("no life was noted")
		}
		_ = client.Close()
		wantEnd(t, l, io.EOF)
	})
}

// A client that begins a line and does not end it is given up in time, however little it sent.
// Silence between lines has no limit.
func TestHalfALineEndsInTime(t *testing.T) {
	eachKind(t, 50*time.Millisecond, func(t *testing.T, b *bench) {
		for name, half := range map[string]string{
			"a byte":             "a",
			"behind a line":      "whole\nhalf",
			"a buffer":           strings.Repeat("x", 4<<10),
			"more than a buffer": strings.Repeat("x", 50_000),
		} {
			t.Run(name, func(t *testing.T) {
				silent, _ := b.connect(echo)
				l, client := b.connect(echo)
				if _, err := io.WriteString(client, half); err != nil {
					t.Fatal(err)
				}
				wantEnd(t, l, os.ErrDeadlineExceeded)
				select {
				case <-silent.ended:
					t.Error("a silent client was given up")
				default:
				}
				silent.socket.Abort(false)
				<-silent.ended
			})
		}
	})
}

// A reader that waits, between lines or within a line, is woken by StopReading.
func TestStopReadingWakesTheReader(t *testing.T) {
	eachKind(t, time.Hour, func(t *testing.T, b *bench) {
		for _, text := range []string{"", "half", strings.Repeat("x", 50_000)} {
			l, client := b.connect(echo)
			if _, err := io.WriteString(client, text); err != nil {
				t.Fatal(err)
			}
			l.socket.StopReading()
			wantEnd(t, l, os.ErrDeadlineExceeded)
		}
	})
}

// The client reads all that was written, and then the end. After a half close the owner still
// discards the bytes that the client sends.
func TestClientReadsAllBeforeTheEnd(t *testing.T) {
	text := strings.Repeat("x", 1<<20) + "\n"
	eachKind(t, time.Hour, func(t *testing.T, b *bench) {
		for name, end := range map[string]func(*netpoll.Socket){
			"hang up":    (*netpoll.Socket).HangUp,
			"half close": (*netpoll.Socket).HalfClose,
		} {
			t.Run(name, func(t *testing.T) {
				l, client := b.connect(func(l *liner, _ string) {
					l.send(text)
					l.finishWith(func() { end(&l.socket) })
				})
				if _, err := io.WriteString(client, "go\n"); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(client)
				if err != nil || string(got) != text {
					t.Errorf("read %d bytes, %v", len(got), err)
				}
				if name == "half close" {
					if _, err := io.WriteString(client, "more\n"); err != nil {
						t.Error(err)
					}
				}
				_ = client.Close()
				<-l.ended
			})
		}
	})
}

// Abort ends a socket that is full: the reader finds the end, and waiting lines are dropped.
func TestAbortEndsAFullSocket(t *testing.T) {
	eachKind(t, time.Hour, func(t *testing.T, b *bench) {
		l, client := b.connect(func(l *liner, _ string) { l.send(strings.Repeat("x", 32<<20)) })
		if _, err := io.WriteString(client, "go\n"); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, "the socket is full", l.isBacklogged)
		l.socket.Abort(true)
		<-l.ended
		l.send("late")
		testkit.Eventually(t, "writes fail", func() bool {
			l.socket.Lock()
			defer l.socket.Unlock()
			return l.broken != nil || l.waits
		})
	})
}

// Lines that the client sent right in front of its end are read.
func TestLastLinesAreRead(t *testing.T) {
	eachKind(t, time.Hour, func(t *testing.T, b *bench) {
		for range 50 {
			lines := make(chan string, 2)
			l, client := b.connect(func(_ *liner, line string) { lines <- line })
			if _, err := io.WriteString(client, "last\nwords\n"); err != nil {
				t.Fatal(err)
			}
			_ = client.Close()
			wantEnd(t, l, io.EOF)
			if len(lines) != 2 {
				t.Fatalf("%d lines came", len(lines))
			}
		}
	})
}

// A parked socket that is silent has no goroutine: not before input, not after it, not with half a
// line.
func TestSilentParkedSocketsHaveNoGoroutine(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // nothing is parked
	}
	eachKind(t, time.Hour, func(t *testing.T, b *bench) {
		if b.blocking {
			return
		}
		calm := 0 // looks in a row: at the first the input may not have been told yet
		silent := func() {
			t.Helper()
			testkit.Eventually(t, "no goroutine is left", func() bool {
				calm++
				if drivenSockets() > 0 {
					calm = 0
				}
				return calm == 20
			})
			calm = 0
		}
		var clients []net.Conn
		for range 20 {
			_, client := b.connect(echo)
			clients = append(clients, client)
		}
		silent()
		for _, text := range []string{"whole\nhalf", " and half\nagain", "\n"} {
			for _, client := range clients {
				if _, err := io.WriteString(client, text); err != nil {
					t.Fatal(err)
				}
			}
			silent()
		}
		for _, client := range clients {
			got := make([]byte, len("whole\nhalf and half\nagain\n"))
			if _, err := io.ReadFull(client, got); err != nil ||
				string(got) != "whole\nhalf and half\nagain\n" {
				t.Errorf("got %q, %v", got, err)
			}
			_ = client.Close()
		}
	})
}

// drivenSockets returns how many goroutines run a parked socket, or write to it.
func drivenSockets() int {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "netpoll.(*parked).") +
		strings.Count(string(stacks), "ServeWritable")
}
