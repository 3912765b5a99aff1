package testkit

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

// TestACableBehavesAsAnyConnection under deadlines, closes and concurrent calls.
func TestACableBehavesAsAnyConnection(t *testing.T) {
	nettest.TestConn(t, func() (dialled, accepted net.Conn, stop func(), err error) {
		l := ListenCable(64 << 10)
		go func() {
			dialled, err = l.DialContext(t.Context())
			_ = l.Close() // Accept ends if there is an error
		}()
		accepted, acceptErr := l.Accept()
		<-l.closed
		stop = func() { _, _ = dialled.Close(), accepted.Close() }
		return dialled, accepted, stop, errors.Join(err, acceptErr)
	})
}

func TestADeadlineThatHasPassedStartsNoTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end, _ := NewCable("a", "b", 1).splitEnds()
		for name, at := range map[string]time.Time{
			"now": time.Now(), "past": time.Now().Add(-time.Hour), "long past": time.Unix(1, 0),
		} {
			_ = end.SetDeadline(at)
			if _, err := end.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: read: %v", name, err)
			}
			if _, err := end.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: write: %v", name, err)
			}
			e := end.(*cableEnd)
			if e.in.readBy.timer != nil || e.out.writeBy.timer != nil {
				t.Errorf("%s: there is a timer", name)
			}
		}
	})
}

func TestADeadlineEndsACallAtItsTimeUnlessItIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		end, _ := NewCable("a", "b", 1).splitEnds()
		start := time.Now()
		_ = end.SetDeadline(start.Add(time.Second))
		_ = end.SetReadDeadline(start.Add(time.Minute))
		_ = end.SetWriteDeadline(time.Time{})
		if _, err := end.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) ||
			time.Since(start) != time.Minute {
			t.Errorf("read: %v after %v", err, time.Since(start))
		}
		if n, err := end.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
	})
}

func TestAStalledCableHoldsWhatFitsAndDeliversItLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const capacity = 1000
		w := NewCable("a", "b", capacity)
		dialled, accepted := w.splitEnds()
		w.Stall(true, false)
		sent := bytes.Repeat([]byte("0123456789"), capacity)
		go func() {
			if n, err := dialled.Write(sent); n != len(sent) || err != nil {
				t.Errorf("write: %d, %v", n, err)
			}
			_ = dialled.Close()
		}()
		_ = accepted.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := accepted.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read while it stalls: %v", err)
		}
		if held := w.Held(); held != capacity || w.IsOver() {
			t.Errorf("%d bytes held, over: %v", held, w.IsOver())
		}
		_ = accepted.SetReadDeadline(time.Time{})
		w.Stall(false, false)
		if got, err := io.ReadAll(accepted); !bytes.Equal(got, sent) || err != nil {
			t.Errorf("read %d bytes of %d, %v", len(got), len(sent), err)
		}
		if !w.IsOver() {
			t.Error("it is not over")
		}
	})
}

func TestACutEndsTheCallsAtBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := NewCable("a", "b", 1)
		dialled, accepted := w.splitEnds()
		read, written := make(chan error), make(chan error)
		go func() { _, err := accepted.Read(make([]byte, 1)); read <- err }()
		go func() { _, err := accepted.Write([]byte("more")); written <- err }()
		synctest.Wait()
		w.Cut()
		if err := <-read; !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if err := <-written; !errors.Is(err, syscall.EPIPE) {
			t.Errorf("write: %v", err)
		}
		if _, err := dialled.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read at the other end: %v", err)
		}
		if !w.IsOver() {
			t.Error("it is not over")
		}
	})
}

func TestAClosedListenerRefuses(t *testing.T) {
	l := ListenCable(1)
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := l.DialContext(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept: %v", err)
	}
}
