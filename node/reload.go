package node

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// startReloading reads files again for each request to do so, until ctx ends or the function that
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

// reloadFiles reads the files that a running hub can read again: certificates, and the public keys
// of client tokens. For a file that can't be read the old content stays in force, and the log has
// an error of its own. A file that several flags name stands once in a list.
func (s *server) reloadFiles(ctx context.Context) {
	read, failed := []string{}, []string{} // not nil, so that JSON has [] for an empty list
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
		note(c.CertFile, c.Reload())
	}
	if s.keySet != nil {
		note("--token-jwks", s.keySet.Refresh(ctx))
	}
	s.logger.Info("SIGHUP: read again what can be",
		slog.Any("read", read), slog.Any("failed", failed))
}
