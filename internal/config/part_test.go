package config_test

import (
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
)

func newCounter(name string) prometheus.Counter {
	return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: "for a test"})
}

func TestInstrumentsAreRegisteredTogetherOrNotAtAll(t *testing.T) {
	r := prometheus.NewRegistry()
	if err := config.Register(r, newCounter("b")); err != nil {
		t.Fatal(err)
	}
	if err := config.Register(
		r, newCounter("a"), newCounter("b"), newCounter("c"),
	); !errors.Is(err, config.ErrRegistered) {
		t.Errorf("one of them is registered: %v", err)
	}
	if err := config.Register(r, newCounter("a"), newCounter("")); err == nil ||
		errors.Is(err, config.ErrRegistered) {
		t.Errorf("one of them has no name: %v", err)
	}
	families, err := r.Gather()
	if err != nil || len(families) != 1 || families[0].GetName() != "b" {
		t.Errorf("registered: %v, %v", families, err)
	}
	if err := config.Register(r, newCounter("a"), newCounter("c")); err != nil {
		t.Errorf("the rest is still free: %v", err)
	}
	if err := config.Register(nil, newCounter("a")); err != nil {
		t.Errorf("without a Registerer: %v", err)
	}
}

func TestANilLoggerDiscards(t *testing.T) {
	config.Logger(nil).Error("nobody reads this")
	if l := config.Logger(nil); config.Logger(l) != l {
		t.Error("a logger is replaced")
	}
}
