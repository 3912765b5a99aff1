package events

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/config"
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

// Validate returns all problems of c.
func (c *Config) Validate() config.Problems {
	var p config.Problems
	p.Require(c.Hub != "", "Hub", "is not set")
	p.RequirePositive("Limits.Messages", c.Limits.Messages)
	p.Require(c.Limits.Bytes >= minBytes,
		"Limits.Bytes", "is %d, must be at least %d", c.Limits.Bytes, minBytes)
	p.RequirePositive("Limits.Standing", c.Limits.Standing)
	p.RequirePositive("MaxSubscribers", c.MaxSubscribers)
	return p
}
