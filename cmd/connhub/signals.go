package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// secondSignalAfter is how long after the first SIGTERM or SIGINT another one still counts as the same
// request. A supervisor may signal the process and then its group at once, as GNU timeout does.
const secondSignalAfter = time.Second

// signalContext returns a context that the first SIGTERM or SIGINT ends. One that comes
// secondSignalAfter or later ends the process.
func signalContext(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		first := time.Now()
		cancel()
		for range signals {
			if time.Since(first) >= secondSignalAfter {
				os.Exit(exitError)
			}
		}
	}()
	return ctx, cancel
}

// ignoreBrokenPipes has a write to a pipe without a reader fail. Go's runtime otherwise ends the
// process if the pipe is stdout or stderr, which is right for a command that prints, and not for a
// hub.
func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// hangups gives SIGHUP its meanings for a hub. If the terminal that the hub was started from is
// gone, the hub stops as with SIGTERM, unless nohup started it. Otherwise the signal asks the hub
// to read its files again.
type hangups struct {
	reloads chan struct{} // has room for one: several signals may be one reload

	cancel   context.CancelFunc
	watching sync.WaitGroup
}

// watchHangups returns a context that ends with the terminal. Close ends the watching; the signal
// is harmless after it, too.
func watchHangups(ctx context.Context, logger *slog.Logger) (context.Context, *hangups) {
	attached := hasTerminal() && !signal.Ignored(syscall.SIGHUP)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	ctx, cancel := context.WithCancel(ctx)
	h := &hangups{reloads: make(chan struct{}, 1), cancel: cancel}
	h.watching.Go(func() {
		for {
			select {
			case <-signals:
			case <-ctx.Done():
				return
			}
			if attached && !hasTerminal() {
				logger.Info("the terminal is gone")
				cancel()
				return
			}
			select {
			case h.reloads <- struct{}{}:
			default:
			}
		}
	})
	return ctx, h
}

// Close ends the watching.
func (h *hangups) Close() {
	h.cancel()
	h.watching.Wait()
}

// hasTerminal reports whether the process has a controlling terminal that is still there.
func hasTerminal() bool {
	fd, err := syscall.Open("/dev/tty", syscall.O_RDONLY|syscall.O_NOCTTY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	_ = syscall.Close(fd)
	return true
}
