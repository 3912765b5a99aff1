package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// startReloading reads files again whenever that is asked for, until ctx ends or the function that
// it returns is called.
func (s *server) startReloading(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var reloading sync.WaitGroup
	reloading.Go(func() {
		for {
			select {
			case <-s.reloads:
				s.reloadFiles(ctx)
			case <-ctx.Done():
				return
			}
		}
	})
	return func() {
		cancel()
		reloading.Wait()
	}
}

// reloadFiles reads what a running hub can read again: certificates, and the public keys of client
// tokens. What can't be read leaves the old in force, and has an error of its own in the log. A
// file that several flags name stands once in a list.
func (s *server) reloadFiles(ctx context.Context) {
	read, failed := []string{}, []string{} // not nil: JSON has [] for an empty list
	note := func(name string, ok bool) {
		list := &failed
		if ok {
			list = &read
		}
		if !slices.Contains(*list, name) {
			*list = append(*list, name)
		}
	}
	for _, c := range s.certificates {
		note(c.certFile, c.reloadPair())
	}
	if s.keySet != nil {
		note("--token-jwks", s.keySet.Refresh(ctx))
	}
	s.logger.Info("SIGHUP: read again what can be",
		slog.Any("read", read), slog.Any("failed", failed))
}
