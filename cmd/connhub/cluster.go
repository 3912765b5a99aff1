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

	"github.com/connhub/connhub/internal/trust"
	"github.com/connhub/connhub/node"
	"github.com/connhub/connhub/node/certificate"
)

// clusterFlags are the flags for the hubs of a cluster to reach each other.
type clusterFlags struct {
	AdvertiseControl string `name:"advertise-control" placeholder:"HOST:PORT" group:"Cluster" help:"Address at which other hubs dial this hub. (--listen-control, with this machine's address if it names none)"`
	Zone             string `name:"zone" sets:"Mesh.Zone" placeholder:"NAME" group:"Cluster" help:"Zone of this hub, shown to operators."`
	PeerCAFile       string `name:"peer-ca-file" placeholder:"FILE" group:"Cluster" help:"Certificates (PEM) to trust in other hubs; with --control-tls-cert-file. (the system's)"`
	PeerServerName   string `name:"peer-server-name" placeholder:"NAME" group:"Cluster" help:"Name in the certificates of other hubs. (the dialled host)"`
	InterestHashBits int    `name:"interest-hash-bits" sets:"Mesh.HashBits" hidden:"" placeholder:"N" group:"Cluster" help:"Bits of the hashes with which hubs announce their users and groups, the same in every hub. For tests. (${default})"`
}

// etcdFlags are the flags to reach an etcd outside the process.
type etcdFlags struct {
	EtcdEndpoints    []string `name:"etcd-endpoints" sets:"Discovery.Endpoints" sep:"," placeholder:"HOST:PORT" group:"Cluster" help:"Members of the etcd in which hubs find each other, or their URLs; repeatable."`
	EtcdPrefix       string   `name:"etcd-prefix" sets:"Discovery.Prefix" placeholder:"PATH" group:"Cluster" help:"Prefix of the cluster's keys in etcd: several clusters can share one etcd. (${default})"`
	EtcdCAFile       string   `name:"etcd-ca-file" placeholder:"FILE" group:"Cluster" help:"Use TLS with etcd, and trust these certificates (PEM)."`
	EtcdCertFile     string   `name:"etcd-cert-file" placeholder:"FILE" group:"Cluster" help:"Client certificate (PEM) for etcd; read again when it changes."`
	EtcdKeyFile      string   `name:"etcd-key-file" placeholder:"FILE" group:"Cluster" help:"Private key of --etcd-cert-file."`
	EtcdUsername     string   `name:"etcd-username" sets:"Discovery.Username" placeholder:"NAME" group:"Cluster" help:"User of etcd, with --etcd-password-file."`
	EtcdPasswordFile string   `name:"etcd-password-file" reads:"Discovery.Password" placeholder:"FILE" group:"Cluster" help:"Password of --etcd-username: the first line."`
	SingleHub        bool     `name:"single-hub" group:"Cluster" help:"This hub is the only hub: no etcd, no cluster."`
}

// planPeers adds a ClusterConfig to p, without etcd, which the command adds. It collects all
// problems.
func (f *clusterFlags) planPeers(p *plan, controlTLS bool) error {
	m := p.configs.Mesh
	p.Cluster = &node.ClusterConfig{
		Registry: *p.configs.Discovery, Advertise: f.AdvertiseControl,
		Zone: m.Zone, HashBits: m.HashBits,
	}
	problems := []error{checkAdvertised(f.AdvertiseControl), p.nameFlags("Mesh", m.Validate())}
	switch {
	case controlTLS:
		var err error
		p.Cluster.PeerTLS, err = trust.File("--peer-ca-file", f.PeerCAFile)
		problems = append(problems, err)
		if err == nil {
			p.Cluster.PeerTLS.ServerName = f.PeerServerName
		}
	case f.PeerCAFile != "" || f.PeerServerName != "":
		problems = append(problems,
			errors.New("--peer-ca-file and --peer-server-name need --control-tls-cert-file: "+
				"without it hubs talk plain text"))
	}
	return errors.Join(problems...)
}

// planEtcd adds etcd to p. It collects all problems.
func (f *etcdFlags) planEtcd(p *plan) error {
	c := &p.Cluster.Registry
	c.Endpoints = f.givenEndpoints()
	var problems []error
	if f.EtcdPasswordFile != "" {
		var err error
		if c.Password, err = firstLine("--etcd-password-file", f.EtcdPasswordFile); err != nil {
			problems = append(problems, err)
			c.Username = "" // a single problem is enough
		}
	}
	var err error
	p.Cluster.EtcdCertificate, err = certificate.Open("--etcd", f.EtcdCertFile, f.EtcdKeyFile)
	problems = append(problems, err)
	if f.EtcdCAFile != "" || p.Cluster.EtcdCertificate != nil {
		c.TLS, err = trust.File("--etcd-ca-file", f.EtcdCAFile)
		problems = append(problems, err)
	}
	if c.TLS != nil && p.Cluster.EtcdCertificate != nil {
		c.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return p.Cluster.EtcdCertificate.CurrentPair(nil)
		}
	}
	problems = append(problems, p.nameFlags("Discovery", c.Validate()))
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
