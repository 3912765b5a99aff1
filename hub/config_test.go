package hub

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/internal/config"
)

func TestTwoHubsCannotShareTheInstrumentsOfARegisterer(t *testing.T) {
	c := DefaultConfig()
	c.ID, c.Metrics = NewID(), prometheus.NewRegistry()
	if _, err := New(c); err != nil {
		t.Fatal(err)
	}
	if _, err := New(c); !errors.Is(err, config.ErrRegistered) {
		t.Errorf("a second hub: %v", err)
	}
}

func TestEachProblemNamesItsField(t *testing.T) {
	var fields []string
	for _, p := range (&Config{}).Validate() {
		fields = append(fields, p.Field)
	}
	want := []string{
		"ID", "MaxConnections", "Outbox.Messages", "Outbox.Bytes", "Window.Messages",
		"Window.Bytes", "AckTimeout", "ResumeWindow", "HeldBytes", "NamespaceHeldBytes",
		"DetachedPerUser", "DetachedPerAddress", "RequestIDs", "Overflow",
	}
	if diff := cmp.Diff(want, fields); diff != "" {
		t.Error(diff)
	}
}
