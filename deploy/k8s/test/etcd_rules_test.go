package k8s

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
)

// membersMatch: the list with which etcd starts names the pods that there will be, at the addresses
// that they tell, and hubs dial just those.
func membersMatch(s *setup, r *report) {
	w := s.etcd()
	r.want(w.replicas%2 == 1, "etcd: %d members survive no more than %d", w.replicas, w.replicas-1)
	r.want(s.sets[0].Spec.PodManagementPolicy == appsv1.ParallelPodManagement,
		"etcd: the first member waits for a quorum before the second one is started")

	var members, endpoints, listed []string
	for number := range w.replicas {
		p := s.pod(w, number)
		v := p.variables()
		r.want(v["ETCD_NAME"] == p.name, "%s calls itself %q", p.name, v["ETCD_NAME"])
		advertised := parseAddress(
			r, "ETCD_INITIAL_ADVERTISE_PEER_URLS", v["ETCD_INITIAL_ADVERTISE_PEER_URLS"],
		)
		clients := parseAddress(r, "ETCD_ADVERTISE_CLIENT_URLS", v["ETCD_ADVERTISE_CLIENT_URLS"])
		r.want(advertised.host == p.host() && clients.host == p.host(),
			"%s tells others to dial %s and %s, want %s", p.name, advertised.host, clients.host,
			p.host())
		listens := p.listens(r)
		r.want(advertised.port == listens["peer"].port &&
			advertised.scheme == listens["peer"].scheme,
			"%s: peers dial %s, it listens on %s", p.name, v["ETCD_INITIAL_ADVERTISE_PEER_URLS"],
			v["ETCD_LISTEN_PEER_URLS"])
		r.want(clients.port == listens["client"].port && clients.scheme == listens["client"].scheme,
			"%s: clients dial %s, it listens on %s", p.name, v["ETCD_ADVERTISE_CLIENT_URLS"],
			v["ETCD_LISTEN_CLIENT_URLS"])
		r.want(listens["metrics"].scheme == "http",
			"%s: the kubelet has no certificate for %s", p.name, v["ETCD_LISTEN_METRICS_URLS"])
		members = append(members, p.name+"="+v["ETCD_INITIAL_ADVERTISE_PEER_URLS"])
		endpoints = append(endpoints, strings.TrimPrefix(
			strings.TrimPrefix(v["ETCD_ADVERTISE_CLIENT_URLS"], "https://"), "http://",
		))
		listed = list(v["ETCD_INITIAL_CLUSTER"])
		r.want(v["ETCD_INITIAL_CLUSTER_STATE"] == "new" && v["ETCD_INITIAL_CLUSTER_TOKEN"] != "",
			"%s: state %q, token %q", p.name, v["ETCD_INITIAL_CLUSTER_STATE"],
			v["ETCD_INITIAL_CLUSTER_TOKEN"])
		secured(v, r)
	}
	r.want(slices.Equal(listed, members), "etcd starts with %v, there are %v", listed, members)
	hub := s.pod(s.hub(), 0).variables()
	r.want(slices.Equal(list(hub["CONNHUB_ETCD_ENDPOINTS"]), endpoints),
		"hubs dial %v, etcd is at %v", hub["CONNHUB_ETCD_ENDPOINTS"], endpoints)
	r.want((hub["CONNHUB_ETCD_CA_FILE"] != "") == strings.HasPrefix(
		s.pod(w, 0).variables()["ETCD_LISTEN_CLIENT_URLS"], "https://",
	),
		"hubs and etcd are not both for TLS")
}

// secured: with TLS a member asks for certificates, of hubs and of members, and takes no hub for a
// member.
func secured(v map[string]string, r *report) {
	if strings.HasPrefix(v["ETCD_LISTEN_CLIENT_URLS"], "https://") {
		r.want(v["ETCD_CLIENT_CERT_AUTH"] == "true" &&
			v["ETCD_TRUSTED_CA_FILE"] != "", "etcd lets in clients without a certificate")
	}
	if strings.HasPrefix(v["ETCD_LISTEN_PEER_URLS"], "https://") {
		r.want(v["ETCD_PEER_CLIENT_CERT_AUTH"] == "true" && v["ETCD_PEER_TRUSTED_CA_FILE"] != "",
			"etcd lets in members without a certificate")
		r.want(v["ETCD_PEER_CERT_ALLOWED_HOSTNAME"] != "",
			"etcd takes a hub's certificate for a member's")
	}
}

// certificatesNamed: a server that is dialled with TLS is called by a name that README.md puts into
// its certificate.
func certificatesNamed(s *setup, r *report) {
	named := func(secret, name, by string) {
		r.want(slices.Contains(s.readme.secrets[secret].names, name),
			"%s: README.md has no name %q for the certificate in %s", by, name, secret)
	}
	hub, member := s.pod(s.hub(), 0).variables(), s.pod(s.etcd(), 0).variables()
	if s.folder == production {
		for _, name := range []string{
			"CONNHUB_TLS_CERT_FILE",
			"CONNHUB_CONTROL_TLS_CERT_FILE", "CONNHUB_ETCD_CA_FILE", "ETCD_PEER_CERT_FILE",
		} {
			r.want(hub[name]+member[name] != "", "production without %s", name)
		}
	}
	if hub["CONNHUB_TLS_CERT_FILE"] != "" {
		public := parseAddress(r, "CONNHUB_PUBLIC_URL", hub["CONNHUB_PUBLIC_URL"]+":443")
		named("connhub-client-tls", public.host, "CONNHUB_PUBLIC_URL")
	}
	r.want((hub["CONNHUB_CONTROL_TLS_CERT_FILE"] != "") == (hub["CONNHUB_PEER_CA_FILE"] != ""),
		"hubs have certificates and no authority to check them by, or the reverse")
	if hub["CONNHUB_PEER_CA_FILE"] != "" {
		name := hub["CONNHUB_PEER_SERVER_NAME"]
		named("connhub-control-tls", name, "CONNHUB_PEER_SERVER_NAME")
		namespace := s.deployments[0].Namespace
		r.want(name == "connhub-grpc."+namespace+
			".svc", "CONNHUB_PEER_SERVER_NAME is %s, the Service is in %s", name, namespace)
	}
	if member["ETCD_CERT_FILE"] == "" {
		return
	}
	for number := range s.etcd().replicas {
		named("connhub-etcd-tls", s.pod(s.etcd(), number).host(), "members and hubs")
	}
	named("connhub-etcd-tls", member["ETCD_PEER_CERT_ALLOWED_HOSTNAME"],
		"ETCD_PEER_CERT_ALLOWED_HOSTNAME")
	named("connhub-etcd-tls", parseAddress(r, "ETCDCTL_ENDPOINTS",
		member["ETCDCTL_ENDPOINTS"]).host, "ETCDCTL_ENDPOINTS")
}
