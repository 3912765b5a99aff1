package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/connhub/connhub/cli/terminal"
)

// secondSignalAfter is the time after the first SIGTERM or SIGINT in which further signals count as
// the same request. A supervisor may signal the process and then its group at once, as GNU timeout
// does.
const secondSignalAfter = time.Second

// signalContext returns a context that the first SIGTERM or SIGINT ends. A signal secondSignalAfter
// or more after it ends the process.
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
				os.Exit(terminal.ExitError)
			}
		}
	}()
	return ctx, cancel
}

// ignoreBrokenPipes makes a write to a pipe without a reader return an error. Go's runtime
// otherwise ends the process if the pipe is stdout or stderr. That is right for a command that
// prints, but not for a hub.
func ignoreBrokenPipes() { signal.Ignore(syscall.SIGPIPE) }

// hangups handles SIGHUP for a hub. If the terminal that started the hub is gone, the hub stops as
// with SIGTERM, unless nohup started it. Otherwise the hub reads its files again.
type hangups struct {
	reloads chan struct{} // has room for a single signal: several may become the same reload

	cancel   context.CancelFunc
	watching sync.WaitGroup
}

// watchHangups returns a context that ends with the terminal. Close ends the watching. SIGHUP has
// no effect after it.
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
