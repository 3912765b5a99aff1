package k8s

import (
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// listeners are the variables that say where a container listens, with the name that its port has.
var listeners = map[string]string{
	"CONNHUB_LISTEN_CLIENTS":   "clients",
	"CONNHUB_LISTEN_CONTROL":   "grpc",
	"CONNHUB_LISTEN_OPS":       "ops",
	"ETCD_LISTEN_CLIENT_URLS":  "client",
	"ETCD_LISTEN_PEER_URLS":    "peer",
	"ETCD_LISTEN_METRICS_URLS": "metrics",
}

// listens returns where a pod listens, by the name of the port.
func (p pod) listens(r *report) map[string]netAddress {
	all := make(map[string]netAddress)
	for name, value := range p.variables() {
		if port, ok := listeners[name]; ok {
			all[port] = parseAddress(r, name, value)
		}
	}
	return all
}

// netAddress is a HOST:PORT or a URL with such a host.
type netAddress struct {
	scheme, host string
	port         int
}

func parseAddress(r *report, name, value string) netAddress {
	var a netAddress
	if scheme, rest, ok := strings.Cut(value, "://"); ok {
		a.scheme, value = scheme, rest
	}
	host, port, err := net.SplitHostPort(value)
	a.host = host
	if err == nil {
		a.port, err = strconv.Atoi(port)
	}
	r.want(err == nil, "%s: %s is no address: %v", name, value, err)
	return a
}

func portsMatch(s *setup, r *report) {
	for _, w := range s.workloads() {
		p := s.pod(w, 0)
		want := p.listens(r)
		r.want(len(want) == 3, "%s listens on %d ports, want 3", w.name, len(want))
		ports := w.container().Ports
		for _, port := range ports {
			r.want(port.Protocol == "" || port.Protocol == corev1.ProtocolTCP,
				"%s: port %s is %s", w.name, port.Name, port.Protocol)
			r.want(port.HostPort == 0, "%s: port %s takes the node's", w.name, port.Name)
			address, ok := want[port.Name]
			r.want(ok, "%s: nobody listens on port %s", w.name, port.Name)
			r.want(address.port == int(port.ContainerPort),
				"%s: port %s is %d, it listens on %d", w.name, port.Name, port.ContainerPort,
				address.port)
		}
		r.want(len(ports) == len(want), "%s: %d ports are named, it listens on %d",
			w.name, len(ports), len(want))
		for name, address := range want {
			r.want(address.host == "" || address.host == "0.0.0.0",
				"%s: %s listens on %s, which others don't reach", w.name, name, address.host)
		}
	}
	v := s.pod(s.hub(), 0).variables()
	advertised := parseAddress(r, "CONNHUB_ADVERTISE_CONTROL", v["CONNHUB_ADVERTISE_CONTROL"])
	r.want(advertised.host == s.pod(s.hub(), 0).ip,
		"hubs dial %s, the pod is at another address", advertised.host)
	r.want(advertised.port == parseAddress(r, "CONNHUB_LISTEN_CONTROL",
		v["CONNHUB_LISTEN_CONTROL"]).port,
		"hubs dial port %d, which is not that of control", advertised.port)
}

// probes are those of the only container, by name.
func (w workload) probes() map[string]*corev1.Probe {
	c := w.container()
	return map[string]*corev1.Probe{
		"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe,
	}
}

// probesReach looks at the ports. That the paths are served the running pods show.
func probesReach(s *setup, r *report) {
	for _, w := range s.workloads() {
		for name, probe := range w.probes() {
			if probe == nil || probe.HTTPGet == nil {
				r.add("%s: no HTTP probe for %s", w.name, name)
				continue
			}
			port, ok := w.port(probe.HTTPGet.Port)
			r.want(ok && (port.Name == "ops" || port.Name == "metrics"),
				"%s: %s asks port %s", w.name, name, probe.HTTPGet.Port.String())
			r.want(probe.HTTPGet.Scheme == "" || probe.HTTPGet.Scheme == corev1.URISchemeHTTP,
				"%s: %s asks with %s", w.name, name, probe.HTTPGet.Scheme)
			r.want(probe.HTTPGet.Host == "", "%s: %s asks %s", w.name, name, probe.HTTPGet.Host)
		}
		start, live, ready := w.probes()["startup"], w.probes()["liveness"], w.probes()["readiness"]
		if start == nil || live == nil ||
			ready == nil || start.HTTPGet == nil || live.HTTPGet == nil || ready.HTTPGet == nil {
			continue
		}
		r.want(start.HTTPGet.Path == live.HTTPGet.Path,
			"%s: the startup probe asks %s: who waits for others would be restarted", w.name,
			start.HTTPGet.Path)
		r.want(live.HTTPGet.Path != ready.HTTPGet.Path,
			"%s: who is not ready would be restarted", w.name)
	}
}

// port finds a container's port by name or number.
func (w workload) port(which intstr.IntOrString) (corev1.ContainerPort, bool) {
	for _, p := range w.container().Ports {
		if which.Type == intstr.String &&
			p.Name == which.StrVal || which.Type == intstr.Int && p.ContainerPort == which.IntVal {
			return p, true
		}
	}
	return corev1.ContainerPort{}, false
}

// exposed are the Services with the ports of the container that they lead to.
var exposed = map[string][]string{
	"connhub-clients": {"clients"},
	"connhub-grpc":    {"grpc"},
	"connhub-etcd":    {"client", "peer"},
}

func servicesReach(s *setup, r *report) {
	for _, service := range s.services {
		var reached []string
		for _, w := range s.workloads() {
			if !labels.SelectorFromSet(service.Spec.Selector).Matches(
				labels.Set(w.template.Labels),
			) {
				continue
			}
			for _, p := range service.Spec.Ports {
				port, ok := w.port(p.TargetPort)
				r.want(ok, "Service %s: pods of %s have no port %s",
					service.Name, w.name, p.TargetPort.String())
				reached = append(reached, port.Name)
				r.want(service.Spec.ClusterIP != corev1.ClusterIPNone ||
					p.Port == port.ContainerPort,
					"Service %s: without an address of its own, port %d can't become %d",
					service.Name, p.Port, port.ContainerPort)
			}
		}
		r.want(slices.Equal(reached, exposed[service.Name]),
			"Service %s leads to %v, want %v", service.Name, reached, exposed[service.Name])
	}
	for name := range exposed {
		r.want(s.service(name) != nil, "no Service %s", name)
	}
	if grpc := s.service("connhub-grpc"); grpc != nil {
		r.want(grpc.Spec.ClusterIP == corev1.ClusterIPNone,
			"Service %s is not headless: a backend sees one hub", grpc.Name)
		r.want(!grpc.Spec.PublishNotReadyAddresses,
			"Service %s lists hubs that are not ready", grpc.Name)
	}
	governing := s.service(s.sets[0].Spec.ServiceName)
	if governing == nil {
		r.add("%s: no Service %s", s.sets[0].Name, s.sets[0].Spec.ServiceName)
		return
	}
	r.want(governing.Spec.ClusterIP == corev1.ClusterIPNone,
		"Service %s is not headless: members have no names", governing.Name)
	r.want(governing.Spec.PublishNotReadyAddresses,
		"Service %s hides members that are not ready: they never get there", governing.Name)
	r.want(publicURLFits(s),
		"the public URL is %s, Service connhub-clients has port %d",
		s.pod(s.hub(), 0).variables()["CONNHUB_PUBLIC_URL"], clientsPort(s))
}

func clientsPort(s *setup) int32 {
	if service := s.service("connhub-clients"); service != nil && len(service.Spec.Ports) == 1 {
		return service.Spec.Ports[0].Port
	}
	return 0
}

// publicURLFits: the port of the clients' Service, and https just where the hub or a balancer has a
// certificate.
func publicURLFits(s *setup) bool {
	v := s.pod(s.hub(), 0).variables()
	u, err := url.Parse(v["CONNHUB_PUBLIC_URL"])
	if err != nil {
		return false
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return port == strconv.Itoa(int(clientsPort(s))) &&
		(u.Scheme == "https") == (v["CONNHUB_TLS_CERT_FILE"] != "")
}

// doors are the peers that each port lets in, by workload and name of the port. They are pods of
// this setup, or "others", which carry labels for it; "anybody" is no restriction at all.
var doors = map[string]map[string][]string{
	"connhub":      {"clients": {"anybody"}, "grpc": {"others", "connhub"}, "ops": {"others"}},
	"connhub-etcd": {"client": {"connhub"}, "peer": {"connhub-etcd"}, "metrics": {"others"}},
}

func policiesMatch(s *setup, r *report) {
	for _, policy := range s.policies {
		r.want(slices.Equal(
			policy.Spec.PolicyTypes, []networkingv1.PolicyType{networkingv1.PolicyTypeIngress},
		),
			"NetworkPolicy %s is for %v", policy.Name, policy.Spec.PolicyTypes)
		for _, w := range s.workloads() {
			if !matches(r, &policy.Spec.PodSelector, w) {
				continue
			}
			found := make(map[string][]string)
			for _, in := range policy.Spec.Ingress {
				r.want(len(in.Ports) > 0, "NetworkPolicy %s opens every port", policy.Name)
				for _, p := range in.Ports {
					if p.Port == nil || p.EndPort != nil {
						r.add("NetworkPolicy %s: a port without its number", policy.Name)
						continue
					}
					port, ok := w.port(*p.Port)
					r.want(
						ok, "NetworkPolicy %s: pods have no port %s", policy.Name, p.Port.String(),
					)
					found[port.Name] = append(found[port.Name], s.comers(in, r)...)
				}
			}
			for _, port := range w.container().Ports {
				want := doors[w.name][port.Name]
				r.want(slices.Equal(found[port.Name], want),
					"NetworkPolicy %s: %s lets in %v, want %v", policy.Name, port.Name,
					found[port.Name], want)
			}
		}
	}
}

// comers returns the peers that a rule lets in, in the words of doors.
func (s *setup) comers(in networkingv1.NetworkPolicyIngressRule, r *report) (who []string) {
	if len(in.From) == 0 {
		return []string{"anybody"}
	}
	for _, from := range in.From {
		if from.NamespaceSelector != nil || from.IPBlock != nil {
			open := from.IPBlock != nil || len(from.NamespaceSelector.MatchLabels) == 0 &&
				(from.PodSelector == nil || len(from.PodSelector.MatchLabels) == 0)
			if open {
				who = append(who, "anybody")
			} else {
				who = append(who, "others")
			}
			continue
		}
		for _, w := range s.workloads() {
			if matches(r, from.PodSelector, w) {
				who = append(who, w.name)
			}
		}
	}
	return who
}

// matches tells whether a selector selects the pods of w.
func matches(r *report, selector *metav1.LabelSelector, w workload) bool {
	if selector == nil {
		return false
	}
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		r.add("selector %v: %v", selector, err)
		return false
	}
	return parsed.Matches(labels.Set(w.template.Labels))
}

// selectorsMatch: a selector that matches pods of a workload matches all pods of that workload and
// nothing else.
func selectorsMatch(s *setup, r *report) {
	for i, w := range s.workloads() {
		other := s.workloads()[1-i]
		only := func(what string, selector *metav1.LabelSelector) {
			r.want(matches(r, selector, w), "%s of %s does not select its pods", what, w.name)
			r.want(!matches(r, selector, other), "%s of %s selects pods of %s",
				what, w.name, other.name)
		}
		only("the selector", w.selector)
		for _, c := range w.template.Spec.TopologySpreadConstraints {
			only("the spread over "+c.TopologyKey, c.LabelSelector)
		}
		if a := w.template.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
			for _, term := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
				only("the anti-affinity", term.LabelSelector)
			}
		}
		budgets, policies := 0, 0
		for _, b := range s.budgets {
			if b.Name == w.name {
				budgets++
				only("the PodDisruptionBudget", b.Spec.Selector)
			}
		}
		for _, p := range s.policies {
			if p.Name == w.name {
				policies++
				only("the NetworkPolicy", &p.Spec.PodSelector)
			}
		}
		r.want(budgets == 1 && policies == 1,
			"%s has %d PodDisruptionBudgets and %d NetworkPolicies, want 1 each", w.name, budgets,
			policies)
	}
	for _, o := range s.objects() {
		r.want(o.GetNamespace() == s.objects()[0].GetNamespace(),
			"%s is in namespace %q, others in %q", o.GetName(), o.GetNamespace(),
			s.objects()[0].GetNamespace())
	}
}

// objects are all that live in a namespace.
func (s *setup) objects() (all []metav1.Object) {
	for _, o := range s.configMaps {
		all = append(all, o)
	}
	for _, o := range s.secrets {
		all = append(all, o)
	}
	for _, o := range s.services {
		all = append(all, o)
	}
	for _, o := range s.deployments {
		all = append(all, o)
	}
	for _, o := range s.sets {
		all = append(all, o)
	}
	for _, o := range s.budgets {
		all = append(all, o)
	}
	for _, o := range s.policies {
		all = append(all, o)
	}
	return all
}
