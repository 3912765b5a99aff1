package main

import (
	"errors"
	"fmt"

	"github.com/connhub/connhub/auth"
	"github.com/connhub/connhub/discovery"
)

// checkEffects refuses flags that have no effect beside another flag. The operator meant something
// by them, and would not get it.
func (c *serveCmd) checkEffects() error {
	var problems []error
	void := func(given bool, flag, why string) {
		if given {
			problems = append(problems, fmt.Errorf("%s has no effect %s", flag, why))
		}
	}
	void(c.TokenJWKS == "" && c.TokenJWKSInterval != auth.DefaultKeySetConfig().Interval,
		"--token-jwks-interval", "without --token-jwks")
	void(c.InsecureDev && c.CloseOnTokenExpiry && len(c.TokenKeyFile) == 0 && c.TokenJWKS == "",
		"--close-on-token-expiry",
		"without --token-key-file or --token-jwks: clients have no tokens")
	if c.SingleHub && len(c.givenEndpoints()) == 0 {
		for _, f := range []struct {
			flag  string
			given bool
		}{
			{"--peer-secret-file", len(c.PeerSecretFile) > 0},
			{"--advertise-control", c.AdvertiseControl != ""},
			{"--zone", c.Zone != ""},
			{"--peer-ca-file", c.PeerCAFile != ""},
			{"--peer-server-name", c.PeerServerName != ""},
			{"--etcd-prefix", c.EtcdPrefix != discovery.DefaultConfig().Prefix},
			{"--etcd-ca-file", c.EtcdCAFile != ""},
			{"--etcd-cert-file", c.EtcdCertFile != ""},
			{"--etcd-key-file", c.EtcdKeyFile != ""},
			{"--etcd-username", c.EtcdUsername != ""},
			{"--etcd-password-file", c.EtcdPasswordFile != ""},
		} {
			void(f.given, f.flag, "with --single-hub: there are no other hubs")
		}
	}
	return errors.Join(problems...)
}
