package discovery_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/internal/config"
)

func TestTheDefaultConfigNeedsOnlyEndpoints(t *testing.T) {
	t.Parallel()
	config := discovery.DefaultConfig()
	for _, endpoints := range [][]string{
		{"127.0.0.1:2379"},
		{"etcd-0.etcd:2379", "etcd-1.etcd:2379"},
		{"http://[::1]:2379"},
		{"https://etcd:2379"},
	} {
		config.Endpoints = endpoints
		if err := config.Validate().Err(); err != nil {
			t.Errorf("%q: %v", endpoints, err)
		}
	}
}

func TestAConfigIsCheckedWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*discovery.Config)
		want   []string
	}{
		"empty": {
			func(c *discovery.Config) { *c = discovery.Config{} },
			[]string{"Endpoints is empty", "Prefix", "LeaseTTL", "DialTimeout"},
		},
		"bad endpoints": {
			func(c *discovery.Config) {
				c.Endpoints = []string{"x", "http://u:secret@x:1", "ftp://x:1", ":1", "x:"}
			},
			[]string{
				"Endpoints[0]", "Endpoints[1]", "Endpoints[2]", "Endpoints[3]", "Endpoints[4]",
			},
		},
		"mixed endpoints": {
			func(c *discovery.Config) { c.Endpoints = []string{"https://x:1", "http://x:2"} },
			[]string{"Endpoints[1]"},
		},
		"TLS for nothing": {
			func(c *discovery.Config) {
				c.Endpoints, c.TLS = []string{"http://x:1"}, new(tls.Config)
			},
			[]string{"leave TLS unused"},
		},
		"slash":    {func(c *discovery.Config) { c.Prefix = "/x/" }, []string{"Prefix"}},
		"no slash": {func(c *discovery.Config) { c.Prefix = "x" }, []string{"Prefix"}},
		"no password": {
			func(c *discovery.Config) { c.Username = "u" }, []string{"Password is not"},
		},
		"no user": {
			func(c *discovery.Config) { c.Password = "p" }, []string{"Username is not"},
		},
		"half second": {
			func(c *discovery.Config) { c.LeaseTTL = 1500 * time.Millisecond },
			[]string{"LeaseTTL"},
		},
		"an hour": {func(c *discovery.Config) { c.LeaseTTL = time.Hour }, []string{"LeaseTTL"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := discovery.DefaultConfig()
			config.Endpoints = []string{"127.0.0.1:2379"}
			c.change(&config)
			_, err := discovery.New(config)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want word of %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("a password is in %v", err)
			}
		})
	}
}

func TestTwoRegistriesCannotShareTheInstrumentsOfARegisterer(t *testing.T) {
	t.Parallel()
	c := discovery.DefaultConfig()
	c.Endpoints, c.Metrics = []string{shared.Endpoint()}, prometheus.NewRegistry()
	r, err := discovery.New(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := discovery.New(c); !errors.Is(err, config.ErrRegistered) {
		t.Errorf("a second registry: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}
