package events

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub"
)

// minBytes keeps the largest message from having no room in an empty queue.
const minBytes = 2 * hub.MaxPayload

// Config configures a Broker. DefaultConfig fills all of it but Hub.
type Config struct {
	// Hub is the id of the hub that the events come from.
	Hub hub.ID
	// Limits are those of each subscription.
	Limits Limits
	// MaxSubscribers is how many subscriptions there may be at once. Each makes every event dearer.
	MaxSubscribers int
	// Metrics is where the Broker registers its instruments; nil: nowhere.
	Metrics prometheus.Registerer
}

// DefaultConfig has the limits that the API names.
func DefaultConfig() Config {
	return Config{
		// Some seconds of a busy hub; and all the connections that it is likely to lose at once.
		Limits:         Limits{Messages: 10_000, Bytes: 16 << 20, Standing: 100_000},
		MaxSubscribers: 64,
	}
}

// Validate returns all that is wrong with c, or nil.
func (c *Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.Hub != "", "Hub is not set")
	check(c.Limits.Messages > 0, "Limits.Messages is %d, must be above 0", c.Limits.Messages)
	check(c.Limits.Bytes >= minBytes,
		"Limits.Bytes is %d, must be at least %d", c.Limits.Bytes, minBytes)
	check(c.Limits.Standing > 0, "Limits.Standing is %d, must be above 0", c.Limits.Standing)
	check(c.MaxSubscribers > 0, "MaxSubscribers is %d, must be above 0", c.MaxSubscribers)
	return errors.Join(errs...)
}
