package config

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Logger returns the logger for the field Logger of a Config: logger itself, or for nil a logger
// that discards all lines.
func Logger(logger *slog.Logger) *slog.Logger {
	if logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return logger
}

// ErrRegistered: the Registerer has these instruments already.
var ErrRegistered = errors.New("registered already: each instance needs a Registerer of its own")

// Register registers the instruments of a package with r, the field Metrics of its Config: all, or
// none if there is an error. The error is ErrRegistered if r has one already, as it has after the
// first of two instances. A nil r registers nothing.
func Register(r prometheus.Registerer, instruments ...prometheus.Collector) error {
	if r == nil {
		return nil
	}
	for i, instrument := range instruments {
		err := r.Register(instrument)
		if err == nil {
			continue
		}
		for _, earlier := range instruments[:i] {
			r.Unregister(earlier)
		}
		if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
			return ErrRegistered
		}
		return fmt.Errorf("register instruments: %w", err)
	}
	return nil
}
