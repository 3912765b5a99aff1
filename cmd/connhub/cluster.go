package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/internal/trust"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/certificate"
)

// clusterFlags are the flags for the hubs of a cluster to reach each other.
type clusterFlags struct {
	AdvertiseControl string `env:"CONNHUB_ADVERTISE_CONTROL" placeholder:"HOST:PORT" group:"Cluster" help:"Address at which other hubs dial this hub. (--listen-control, with this machine's address if it names none)"`
	Zone             string `env:"CONNHUB_ZONE" placeholder:"NAME" group:"Cluster" help:"Zone of this hub, shown to operators."`
	PeerCAFile       string `name:"peer-ca-file" env:"CONNHUB_PEER_CA_FILE" placeholder:"FILE" group:"Cluster" help:"Certificates (PEM) to trust in other hubs; with --control-tls-cert-file. (the system's)"`
	PeerServerName   string `env:"CONNHUB_PEER_SERVER_NAME" placeholder:"NAME" group:"Cluster" help:"Name in the certificates of other hubs. (the dialled host)"`
	InterestHashBits int    `hidden:"" default:"${hash_bits}" env:"CONNHUB_INTEREST_HASH_BITS" placeholder:"N" group:"Cluster" help:"Bits of the hashes with which hubs announce their users and groups, the same in every hub. For tests. (${default})"`
}

// etcdFlags are the flags to reach an etcd outside the process.
type etcdFlags struct {
	EtcdEndpoints    []string `sep:"," env:"CONNHUB_ETCD_ENDPOINTS" placeholder:"HOST:PORT" group:"Cluster" help:"Members of the etcd in which hubs find each other, or their URLs; repeatable."`
	EtcdPrefix       string   `default:"${etcd_prefix}" env:"CONNHUB_ETCD_PREFIX" placeholder:"PATH" group:"Cluster" help:"Prefix of the cluster's keys in etcd: several clusters can share one etcd. (${default})"`
	EtcdCAFile       string   `name:"etcd-ca-file" env:"CONNHUB_ETCD_CA_FILE" placeholder:"FILE" group:"Cluster" help:"Use TLS with etcd, and trust these certificates (PEM)."`
	EtcdCertFile     string   `env:"CONNHUB_ETCD_CERT_FILE" placeholder:"FILE" group:"Cluster" help:"Client certificate (PEM) for etcd; read again when it changes."`
	EtcdKeyFile      string   `env:"CONNHUB_ETCD_KEY_FILE" placeholder:"FILE" group:"Cluster" help:"Private key of --etcd-cert-file."`
	EtcdUsername     string   `env:"CONNHUB_ETCD_USERNAME" placeholder:"NAME" group:"Cluster" help:"User of etcd, with --etcd-password-file."`
	EtcdPasswordFile string   `env:"CONNHUB_ETCD_PASSWORD_FILE" placeholder:"FILE" group:"Cluster" help:"Password of --etcd-username: the first line."`
	SingleHub        bool     `env:"CONNHUB_SINGLE_HUB" group:"Cluster" help:"This hub is the only hub: no etcd, no cluster."`
}

// planPeers makes a ClusterConfig of the flags, without etcd, which the command adds. It collects
// all problems.
func (f *clusterFlags) planPeers(controlTLS bool) (*node.ClusterConfig, error) {
	p := &node.ClusterConfig{
		Registry: discovery.DefaultConfig(), Advertise: f.AdvertiseControl,
		Zone: f.Zone, HashBits: f.InterestHashBits,
	}
	problems := []error{checkAdvertised(f.AdvertiseControl)}
	if bits := mesh.DefaultConfig().HashBits; f.InterestHashBits < 1 || f.InterestHashBits > bits {
		problems = append(problems, fmt.Errorf("--interest-hash-bits is %d, want 1 to %d",
			f.InterestHashBits, bits))
	}
	switch {
	case controlTLS:
		var err error
		p.PeerTLS, err = trust.File("--peer-ca-file", f.PeerCAFile)
		problems = append(problems, err)
		if err == nil {
			p.PeerTLS.ServerName = f.PeerServerName
		}
	case f.PeerCAFile != "" || f.PeerServerName != "":
		problems = append(problems,
			errors.New("--peer-ca-file and --peer-server-name need --control-tls-cert-file: "+
				"without it hubs talk plain text"))
	}
	return p, errors.Join(problems...)
}

// planEtcd adds etcd to p. It collects all problems.
func (f *etcdFlags) planEtcd(p *node.ClusterConfig) error {
	c := &p.Registry
	c.Endpoints, c.Prefix, c.Username = f.givenEndpoints(), f.EtcdPrefix, f.EtcdUsername
	var problems []error
	if f.EtcdPasswordFile != "" {
		var err error
		if c.Password, err = firstLine("--etcd-password-file", f.EtcdPasswordFile); err != nil {
			problems = append(problems, err)
			c.Username = "" // a single problem is enough
		}
	}
	var err error
	p.EtcdCertificate, err = certificate.Open("--etcd", f.EtcdCertFile, f.EtcdKeyFile)
	problems = append(problems, err)
	if f.EtcdCAFile != "" || p.EtcdCertificate != nil {
		c.TLS, err = trust.File("--etcd-ca-file", f.EtcdCAFile)
		problems = append(problems, err)
	}
	if c.TLS != nil && p.EtcdCertificate != nil {
		c.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return p.EtcdCertificate.CurrentPair(nil)
		}
	}
	problems = append(problems, inEtcdFlags(c.Validate().Err()))
	return errors.Join(problems...)
}

// givenEndpoints returns the endpoints that are not blank: an empty variable counts as a missing
// variable.
func (f *etcdFlags) givenEndpoints() []string {
	var endpoints []string
	for _, e := range f.EtcdEndpoints {
		if e = strings.TrimSpace(e); e != "" {
			endpoints = append(endpoints, e)
		}
	}
	return endpoints
}

// etcdFields are the flags for the fields that discovery's Validate names.
var etcdFields = strings.NewReplacer(
	"Endpoints", "--etcd-endpoints", "Prefix is", "--etcd-prefix is",
	"Password is not set", "--etcd-password-file is not set",
	"Username is not set", "--etcd-username is not set", "ClientAddress", "--etcd-listen",
)

// inEtcdFlags replaces names of fields by names of flags in the problems of a discovery config.
func inEtcdFlags(err error) error {
	var problems []error
	for _, one := range splitErrors(err) {
		problems = append(problems, errors.New(etcdFields.Replace(one.Error())))
	}
	return errors.Join(problems...)
}

// firstLine returns the first line of a file, which must not be empty.
func firstLine(flag, path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	if line = bytes.TrimRight(line, "\r"); len(line) == 0 {
		return "", fmt.Errorf("%s: the first line of %s is empty", flag, path)
	}
	return string(line), nil
}

// checkAdvertised refuses an address that can't be dialled. An empty address is valid.
func checkAdvertised(address string) error {
	if address == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	number, notNumber := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || notNumber != nil || number == 0 {
		return fmt.Errorf("--advertise-control %s: want HOST:PORT", address)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsUnspecified() {
		return fmt.Errorf("--advertise-control %s: want an address that other hubs can dial",
			address)
	}
	return nil
}
