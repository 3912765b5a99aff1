package k8s

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// mutation is a mistake in a setup, and the rule's words for it.
type mutation struct {
	rule, folder, says string

	breaks func(*setup)
}

// hubEnv and etcdEnv set a variable, or take it away: "".
func hubEnv(name, value string) func(*setup) {
	return func(s *setup) { setEnv(s.hub(), name, value) }
}

func etcdEnv(name, value string) func(*setup) {
	return func(s *setup) { setEnv(s.etcd(), name, value) }
}

func setEnv(w workload, name, value string) {
	c := w.container()
	i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name })
	switch {
	case value == "":
		c.Env = slices.Delete(c.Env, i, i+1)
	case i < 0:
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
	default:
		c.Env[i] = corev1.EnvVar{Name: name, Value: value}
	}
}

// config sets a key of the ConfigMap.
func config(key, value string) func(*setup) {
	return func(s *setup) { s.configMaps[0].Data[key] = value }
}

func hubPod(change func(*corev1.PodSpec)) func(*setup) {
	return func(s *setup) { change(&s.deployments[0].Spec.Template.Spec) }
}

func etcdPod(change func(*corev1.PodSpec)) func(*setup) {
	return func(s *setup) { change(&s.sets[0].Spec.Template.Spec) }
}

func hubContainer(change func(*corev1.Container)) func(*setup) {
	return func(s *setup) { change(s.hub().container()) }
}

// hubVariable sets a variable of the hubs.
func hubVariable(name, value string) func(*setup) {
	return hubContainer(func(c *corev1.Container) {
		for i := range c.Env {
			if c.Env[i].Name == name {
				c.Env[i].Value = value
			}
		}
	})
}

func etcdContainer(change func(*corev1.Container)) func(*setup) {
	return func(s *setup) { change(s.etcd().container()) }
}

func service(name string, change func(*corev1.ServiceSpec)) func(*setup) {
	return func(s *setup) { change(&s.service(name).Spec) }
}

func policyOf(name string, change func(*networkingv1.NetworkPolicySpec)) func(*setup) {
	return func(s *setup) {
		for _, p := range s.policies {
			if p.Name == name {
				change(&p.Spec)
			}
		}
	}
}

// wrong selects nothing that is there.
var wrong = map[string]string{"app.kubernetes.io/component": "hubs"}

var mutations = []mutation{
	{"variables and flags exist", base, "has no --listen-client", hubEnv(
		"CONNHUB_LISTEN_CLIENT", ":8080",
	)},
	{"variables and flags exist", base, "has no --etcd-endpoint", config(
		"CONNHUB_ETCD_ENDPOINT", "x:2379",
	)},
	{"variables and flags exist", base, "etcd has no --initial-clusters", etcdEnv(
		"ETCD_INITIAL_CLUSTERS", "x",
	)},
	{"variables and flags exist", base, "means nothing", hubEnv("CONNHUBS_NAME", "x")},
	{"variables and flags exist", base, "does not take --log-formats", hubContainer(
		func(c *corev1.Container) { c.Args = append(c.Args, "--log-formats=json") },
	)},
	{"variables and flags exist", base, "needs serve", hubContainer(func(c *corev1.Container) {
		c.Args = nil
	})},
	{"variables and flags exist", base, "neither insecure nor single", config(
		"CONNHUB_SINGLE_HUB", "true",
	)},

	{"variables resolve", production, "$(ETCD_NAME) is not known there", func(s *setup) {
		c := s.etcd().container() // the order that a patch without ETCD_NAME would leave
		i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "ETCD_NAME" })
		c.Env = append(slices.Delete(c.Env, i, i+1), c.Env[i])
	}},
	{"variables resolve", base, "$(POD_ID) is not known", hubEnv(
		"CONNHUB_ADVERTISE_CONTROL", "$(POD_ID):9090",
	)},
	{"variables resolve", base, "set twice", config("CONNHUB_NAME", "x")},
	{"variables resolve", base, "ConfigMap connhub is not made", hubContainer(
		func(c *corev1.Container) { c.EnvFrom[0].ConfigMapRef.Name = "connhub" },
	)},
	{"variables resolve", base, "field spec.zone", hubContainer(func(c *corev1.Container) {
		c.Env = append(c.Env, corev1.EnvVar{Name: "CONNHUB_ZONE", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: "spec.zone"},
		}})
	})},
	{"variables resolve", base, "variables for Services", hubPod(func(p *corev1.PodSpec) {
		p.EnableServiceLinks = nil
	})},

	{"ports are listened on", base, "port clients is 8080, it listens on 8081", hubEnv(
		"CONNHUB_LISTEN_CLIENTS", ":8081",
	)},
	{"ports are listened on", base, "port ops is 9101", hubContainer(func(c *corev1.Container) {
		c.Ports[2].ContainerPort = 9101
	})},
	{"ports are listened on", base, "which others don't reach", hubEnv(
		"CONNHUB_LISTEN_OPS", "127.0.0.1:9100",
	)},
	{"ports are listened on", base, "listens on 2 ports", hubEnv("CONNHUB_LISTEN_OPS", "")},
	{"ports are listened on", base, "port client is 2379, it listens on 2378", etcdEnv(
		"ETCD_LISTEN_CLIENT_URLS", "http://0.0.0.0:2378",
	)},
	{"ports are listened on", base, "nobody listens on port grpcs", hubContainer(
		func(c *corev1.Container) { c.Ports[1].Name = "grpcs" },
	)},
	{"ports are listened on", base, "not that of control", hubEnv(
		"CONNHUB_ADVERTISE_CONTROL", "$(POD_IP):9091",
	)},
	{"ports are listened on", base, "the pod is at another address", hubEnv(
		"CONNHUB_ADVERTISE_CONTROL", "connhub-grpc:9090",
	)},

	{"probes reach their port", base, "no HTTP probe for liveness", hubContainer(
		func(c *corev1.Container) { c.LivenessProbe = nil },
	)},
	{"probes reach their port", base, "asks port clients", hubContainer(func(c *corev1.Container) {
		c.ReadinessProbe.HTTPGet.Port = intstr.FromString("clients")
	})},
	{"probes reach their port", base, "asks port 9101", hubContainer(func(c *corev1.Container) {
		c.ReadinessProbe.HTTPGet.Port = intstr.FromInt32(9101)
	})},
	{"probes reach their port", base, "who waits for others would be restarted", etcdContainer(
		func(c *corev1.Container) { c.StartupProbe.HTTPGet.Path = "/readyz" },
	)},
	{
		"probes reach their port", base, "who is not ready would be restarted",
		hubContainer(func(c *corev1.Container) {
			c.StartupProbe.HTTPGet.Path, c.LivenessProbe.HTTPGet.Path = "/readyz", "/readyz"
		}),
	},
	{"probes reach their port", production, "asks with HTTPS", etcdContainer(
		func(c *corev1.Container) { c.LivenessProbe.HTTPGet.Scheme = corev1.URISchemeHTTPS },
	)},

	{"services reach their pods", base, "leads to []", service(
		"connhub-clients", func(s *corev1.ServiceSpec) { s.Selector = wrong },
	)},
	{"services reach their pods", base, "have no port http", service("connhub-clients",
		func(s *corev1.ServiceSpec) { s.Ports[0].TargetPort = intstr.FromString("http") })},
	{"services reach their pods", base, "leads to [grpc]", service("connhub-clients",
		func(s *corev1.ServiceSpec) { s.Ports[0].TargetPort = intstr.FromInt32(9090) })},
	{"services reach their pods", base, "port 9091 can't become 9090", service(
		"connhub-grpc", func(s *corev1.ServiceSpec) { s.Ports[0].Port = 9091 },
	)},
	{"services reach their pods", base, "a backend sees one hub", service(
		"connhub-grpc", func(s *corev1.ServiceSpec) { s.ClusterIP = "" },
	)},
	{"services reach their pods", base, "they never get there", service(
		"connhub-etcd", func(s *corev1.ServiceSpec) { s.PublishNotReadyAddresses = false },
	)},
	{"services reach their pods", base, "no Service etcd", func(s *setup) {
		s.sets[0].Spec.ServiceName = "etcd"
	}},
	{"services reach their pods", production, "has port 8080", service(
		"connhub-clients", func(s *corev1.ServiceSpec) { s.Ports[0].Port = 8080 },
	)},
	{"services reach their pods", production, "the public URL", config(
		"CONNHUB_PUBLIC_URL", "http://hub.example.com:443",
	)},

	{"policies name ports and pods", base, "grpc lets in [anybody]", policyOf(
		"connhub", func(p *networkingv1.NetworkPolicySpec) { p.Ingress[1].From = nil },
	)},
	{"policies name ports and pods", base, "have no port 9091", policyOf("connhub", func(
		p *networkingv1.NetworkPolicySpec,
	) {
		p.Ingress[1].Ports[0].Port = new(intstr.FromInt32(9091))
	})},
	{"policies name ports and pods", base, "client lets in []", policyOf("connhub-etcd", func(
		p *networkingv1.NetworkPolicySpec,
	) {
		p.Ingress[0].From[0].PodSelector.MatchLabels = wrong
	})},
	{
		"policies name ports and pods", base, "client lets in [anybody]",
		policyOf("connhub-etcd", func(p *networkingv1.NetworkPolicySpec) {
			p.Ingress[0].From = []networkingv1.NetworkPolicyPeer{
				{NamespaceSelector: &metav1.LabelSelector{}},
			}
		}),
	},
	{"policies name ports and pods", base, "peer lets in []", policyOf("connhub-etcd",
		func(p *networkingv1.NetworkPolicySpec) { p.Ingress = slices.Delete(p.Ingress, 1, 2) })},
	{"policies name ports and pods", base, "opens every port", policyOf(
		"connhub-etcd", func(p *networkingv1.NetworkPolicySpec) { p.Ingress[0].Ports = nil },
	)},

	{
		"selectors match labels", base, "the selector of connhub does not select its pods",
		func(s *setup) { s.deployments[0].Spec.Selector.MatchLabels = wrong },
	},
	{"selectors match labels", base, "the PodDisruptionBudget of connhub selects pods of " +
		"connhub-etcd", func(s *setup) {
		for _, b := range s.budgets {
			b.Spec.Selector.MatchLabels = map[string]string{"app.kubernetes.io/name": "connhub"}
		}
	}},
	{
		"selectors match labels", base, "the anti-affinity of connhub-etcd does not",
		etcdPod(func(p *corev1.PodSpec) {
			required := p.Affinity.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution
			required[0].LabelSelector.MatchLabels = wrong
		}),
	},
	{
		"selectors match labels", base,
		"the spread over kubernetes.io/hostname of connhub does not",
		hubPod(
			func(p *corev1.PodSpec) {
				p.TopologySpreadConstraints[0].LabelSelector.MatchLabels = wrong
			},
		),
	},
	{
		"selectors match labels", base, "1 PodDisruptionBudgets and 0 NetworkPolicies",
		func(s *setup) { s.policies = s.policies[1:] },
	},
	{"selectors match labels", production, "is in namespace \"x\"", func(s *setup) {
		s.sets[0].Namespace = "x"
	}},

	{
		"secrets are documented", base, "key token.pem of the Secret connhub-token-key is neither",
		hubPod(
			func(p *corev1.PodSpec) {
				p.Volumes[0].Projected.Sources[0].Secret.Items[0].Key = "token.pem"
			},
		),
	},
	{"secrets are documented", base, "of the Secret connhub is neither", hubPod(
		func(p *corev1.PodSpec) { p.Volumes[0].Projected.Sources[0].Secret.Name = "connhub" },
	)},
	{"secrets are documented", production, "a Secret with its values", func(s *setup) {
		s.secrets = []*corev1.Secret{{ObjectMeta: metav1.ObjectMeta{Name: "connhub-token-key"}}}
	}},
	{"secrets are documented", dev, "does not say that it is for trying out", func(s *setup) {
		for key := range s.secrets[0].Data {
			s.secrets[0].Data[key] = []byte("x")
		}
	}},
	{"secrets are documented", dev, "is not in the Secret", func(s *setup) {
		for key := range s.secrets[0].Data {
			delete(s.secrets[0].Data, key)
		}
	}},
	{"secrets are documented", base, "no command makes peer.secret", func(s *setup) {
		s.readme.commands = strings.Replace(
			s.readme.commands, "--from-file=peer.secret", "--from-file=peer", 1,
		)
	}},
	{"secrets are documented", base, "neither made nor in the table", func(s *setup) {
		delete(s.readme.secrets, "connhub-ops-secret")
	}},

	{
		"files are mounted", base, "CONNHUB_TOKEN_KEY_FILE: /etc/connhub/token.key is not mounted",
		hubEnv("CONNHUB_TOKEN_KEY_FILE", "/etc/connhub/token.key"),
	},
	{"files are mounted", base, "nothing reads /etc/connhub/secrets/peer.secret", hubEnv(
		"CONNHUB_PEER_SECRET_FILE", "",
	)},
	{"files are mounted", base, "is not mounted", hubContainer(func(c *corev1.Container) {
		c.VolumeMounts[0].MountPath = "/etc/secrets"
	})},
	{"files are mounted", base, "no volume secret", hubContainer(func(c *corev1.Container) {
		c.VolumeMounts[0].Name = "secret"
	})},
	{"files are mounted", base, "can be written", hubContainer(func(c *corev1.Container) {
		c.VolumeMounts[0].ReadOnly = false
	})},
	{"files are mounted", base, "changes would not arrive", hubContainer(func(c *corev1.Container) {
		c.VolumeMounts[0].SubPath = "token.key"
	})},
	{"files are mounted", base, "mode of secrets", hubPod(func(p *corev1.PodSpec) {
		p.Volumes[0].Projected.DefaultMode = nil
	})},
	{"files are mounted", base, "is on no volume", etcdEnv("ETCD_DATA_DIR", "/data")},
	{"files are mounted", base, "or is its root", etcdEnv("ETCD_DATA_DIR", "/var/lib/etcd")},
	{"files are mounted", production, "ETCD_KEY_FILE: /etc/etcd/tls.key is not mounted", etcdEnv(
		"ETCD_KEY_FILE", "/etc/etcd/tls.key",
	)},
	{"files are mounted", production, "goes with the pod", etcdPod(func(p *corev1.PodSpec) {
		p.Volumes[0].VolumeSource = corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}
	})},
	{"files are mounted", base, "claim data is mounted nowhere", etcdContainer(
		func(c *corev1.Container) { c.VolumeMounts = nil },
	)},

	{"budgets leave enough", base, "more than 1 of 3", func(s *setup) { each(s, 2) }},
	{"budgets leave enough", base, "no node could be drained", func(s *setup) { each(s, 0) }},

	{"grace covers the shutdown", base, "connhub: 50s to stop", hubPod(func(p *corev1.PodSpec) {
		p.TerminationGracePeriodSeconds = new(int64(50))
	})},
	{
		"grace covers the shutdown", base, "1m0s to stop, it needs 1m25s",
		hubVariable("CONNHUB_DRAIN_PERIOD", "1m"),
	},
	{
		"grace covers the shutdown", base, "CONNHUB_DRAIN_DELAY is \"\"",
		hubVariable("CONNHUB_DRAIN_DELAY", ""),
	},
	{
		"grace covers the shutdown", base, "would refuse clients",
		hubVariable("CONNHUB_DRAIN_DELAY", "1s"),
	},
	{"grace covers the shutdown", base, "connhub-etcd: 5s to stop", etcdPod(
		func(p *corev1.PodSpec) { p.TerminationGracePeriodSeconds = new(int64(5)) },
	)},
	{
		"grace covers the shutdown", base, "a preStop delays",
		hubContainer(func(c *corev1.Container) {
			c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
				Sleep: &corev1.SleepAction{Seconds: 5},
			}}
		}),
	},

	{"rollout starts before it stops", base, "takes 1 hubs away first", func(s *setup) {
		s.deployments[0].Spec.Strategy.RollingUpdate.MaxUnavailable = new(intstr.FromInt32(1))
	}},
	{"rollout starts before it stops", base, "is not said", func(s *setup) {
		s.deployments[0].Spec.Strategy = appsv1.DeploymentStrategy{
			Type: appsv1.RecreateDeploymentStrategyType,
		}
	}},
	{"rollout starts before it stops", base, "not back before", func(s *setup) {
		s.deployments[0].Spec.MinReadySeconds = 0
	}},
	{"rollout starts before it stops", production, "2 hubs in production", func(s *setup) {
		s.deployments[0].Spec.Replicas = new(int32(2))
	}},
	{"rollout starts before it stops", dev, "1 hubs", func(s *setup) {
		s.deployments[0].Spec.Replicas = nil
	}},

	{"pods are spread", base, "not spread over topology.kubernetes.io/zone", hubPod(
		func(p *corev1.PodSpec) { p.TopologySpreadConstraints = p.TopologySpreadConstraints[:1] },
	)},
	{"pods are spread", base, "those of the version before", hubPod(func(p *corev1.PodSpec) {
		p.TopologySpreadConstraints[0].MatchLabelKeys = nil
	})},
	{"pods are spread", production, "may lie on one node", hubPod(func(p *corev1.PodSpec) {
		p.TopologySpreadConstraints[0].WhenUnsatisfiable = corev1.ScheduleAnyway
	})},
	{"pods are spread", production, "a lost node", hubPod(func(p *corev1.PodSpec) {
		p.TopologySpreadConstraints[0].NodeTaintsPolicy = nil
	})},
	{"pods are spread", dev, "a small cluster", hubPod(func(p *corev1.PodSpec) {
		p.TopologySpreadConstraints[0].WhenUnsatisfiable = corev1.DoNotSchedule
	})},
	{"pods are spread", base, "two members of etcd", etcdPod(func(p *corev1.PodSpec) {
		p.Affinity = nil
	})},

	{"images are pinned", base, "may be another image tomorrow", hubContainer(
		func(c *corev1.Container) { c.Image = "connhub" },
	)},
	{"images are pinned", base, "may be another image tomorrow", hubContainer(
		func(c *corev1.Container) { c.Image = "registry.example.com/connhub:latest" },
	)},
	{"images are pinned", production, "may be another image tomorrow", hubContainer(
		func(c *corev1.Container) { c.Image = "connhub:dev" },
	)},
	{"images are pinned", base, "the hub is tested with", etcdContainer(func(c *corev1.Container) {
		c.Image = "quay.io/coreos/etcd:v3.4.0"
	})},

	{"etcd's members know each other", base, "etcd starts with", func(s *setup) {
		s.sets[0].Spec.Replicas = new(int32(5))
	}},
	{"etcd's members know each other", base, "4 members survive", func(s *setup) {
		s.sets[0].Spec.Replicas = new(int32(4))
	}},
	{"etcd's members know each other", base, "want connhub-etcd-0.etcd", func(s *setup) {
		s.sets[0].Spec.ServiceName = "etcd"
	}},
	{
		"etcd's members know each other", base,
		"peers dial http://connhub-etcd-0.connhub-etcd:2390",
		etcdEnv("ETCD_INITIAL_ADVERTISE_PEER_URLS", "http://$(ETCD_NAME).connhub-etcd:2390"),
	},
	{"etcd's members know each other", base, "hubs dial", config(
		"CONNHUB_ETCD_ENDPOINTS", "connhub-etcd-0.connhub-etcd:2379",
	)},
	{"etcd's members know each other", base, "before the second one", func(s *setup) {
		s.sets[0].Spec.PodManagementPolicy = appsv1.OrderedReadyPodManagement
	}},
	{"etcd's members know each other", production, "clients without a certificate", etcdEnv(
		"ETCD_CLIENT_CERT_AUTH", "",
	)},
	{"etcd's members know each other", production, "members without a certificate", etcdEnv(
		"ETCD_PEER_CLIENT_CERT_AUTH", "",
	)},
	{"etcd's members know each other", production, "takes a hub's certificate", etcdEnv(
		"ETCD_PEER_CERT_ALLOWED_HOSTNAME", "",
	)},
	{"etcd's members know each other", production, "not both for TLS", hubEnv(
		"CONNHUB_ETCD_CA_FILE", "",
	)},
	{"etcd's members know each other", production, "the kubelet has no certificate", etcdEnv(
		"ETCD_LISTEN_METRICS_URLS", "https://0.0.0.0:2381",
	)},

	{"certificates have the names", production, "no name \"connhub.example\"", config(
		"CONNHUB_PEER_SERVER_NAME", "connhub.example",
	)},
	{"certificates have the names", production, "no name \"other.example.com\"", config(
		"CONNHUB_PUBLIC_URL", "https://other.example.com",
	)},
	{"certificates have the names", production, "connhub-etcd-3.connhub-etcd", func(s *setup) {
		s.sets[0].Spec.Replicas = new(int32(5))
	}},
	{
		"certificates have the names", production,
		"production without CONNHUB_CONTROL_TLS_CERT_FILE",
		hubEnv("CONNHUB_CONTROL_TLS_CERT_FILE", ""),
	},
	{"certificates have the names", production, "or the reverse", hubEnv(
		"CONNHUB_PEER_CA_FILE", "",
	)},
	{"certificates have the names", production, "the Service is in elsewhere", func(s *setup) {
		s.deployments[0].Namespace = "elsewhere"
	}},

	{"pods are confined", base, "connhub is not let in", hubPod(func(p *corev1.PodSpec) {
		p.SecurityContext.RunAsNonRoot = nil
	})},
	{"pods are confined", base, "connhub-etcd is not let in", etcdContainer(
		func(c *corev1.Container) { c.SecurityContext.Capabilities = nil },
	)},
	{"pods are confined", base, "not let in", hubPod(func(p *corev1.PodSpec) {
		p.SecurityContext.SeccompProfile = nil
	})},
	{"pods are confined", base, "not let in", hubPod(func(p *corev1.PodSpec) {
		p.HostNetwork = true
	})},
	{"pods are confined", base, "may write into its image", hubContainer(func(c *corev1.Container) {
		c.SecurityContext.ReadOnlyRootFilesystem = nil
	})},
	{"pods are confined", base, "a token for Kubernetes", hubPod(func(p *corev1.PodSpec) {
		p.AutomountServiceAccountToken = nil
	})},
	{"pods are confined", base, "the image says 65532", hubPod(func(p *corev1.PodSpec) {
		p.SecurityContext.RunAsUser = new(int64(1000))
	})},

	{"resources are said", base, "no requests", hubContainer(func(c *corev1.Container) {
		c.Resources.Requests = nil
	})},
	{"resources are said", base, "no limit of memory", etcdContainer(func(c *corev1.Container) {
		c.Resources.Limits = nil
	})},
	{"resources are said", base, "throttled", hubContainer(func(c *corev1.Container) {
		c.Resources.Limits[corev1.ResourceCPU] = resource.MustParse("1")
	})},
	{"resources are said", base, "want 80 to 90", hubEnv("GOMEMLIMIT", "512MiB")},
	{"memory suffices for the budgets", base, "above half of its memory limit", hubEnv(
		"CONNHUB_HELD_BYTES", "1GiB",
	)},
	{"memory suffices for the budgets", base, "above half of its memory limit", hubEnv(
		"CONNHUB_REQUEST_IDS", "1000000",
	)},
	{"memory suffices for the budgets", base, "above half of its memory limit", hubEnv(
		"CONNHUB_CALL_BYTES", "300MiB",
	)},
	{"memory suffices for the budgets", base, "is an argument", hubContainer(
		func(c *corev1.Container) { c.Args = append(c.Args, "--held-bytes=1GiB") },
	)},
	{"resources are said", base, "a volume of", func(s *setup) {
		requests := s.sets[0].Spec.VolumeClaimTemplates[0].Spec.Resources.Requests
		requests[corev1.ResourceStorage] = resource.MustParse("600Mi")
	}},
}

// each sets how many pods every budget lets go.
func each(s *setup, unavailable int32) {
	for _, b := range s.budgets {
		b.Spec.MaxUnavailable = new(intstr.FromInt32(unavailable))
	}
}

func TestEachRuleBites(t *testing.T) {
	for _, rule := range rules {
		n := 0
		for _, m := range mutations {
			if m.rule != rule.name {
				continue
			}
			n++
			s := loadSetup(t, m.folder)
			m.breaks(s)
			var r report
			rule.check(s, &r)
			if !strings.Contains(strings.Join(r.problems, "\n"), m.says) {
				t.Errorf("%s: want a problem with %q, got:\n%s",
					rule.name, m.says, strings.Join(r.problems, "\n"))
			}
		}
		if n == 0 {
			t.Errorf("nothing breaks the rule %q", rule.name)
		}
	}
	for _, m := range mutations {
		if !slices.ContainsFunc(rules, func(r rule) bool { return r.name == m.rule }) {
			t.Errorf("there is no rule %q", m.rule)
		}
	}
}
