package k8s

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	psa "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

const (
	// shutdownBound is how long a hub needs from the end of its drain to its own: docs/failures.md,
	// "SIGTERM". The running pods are held to it.
	shutdownBound = 10 * time.Second
	// margin is for the steps between the kubelet and the process.
	margin = 10 * time.Second
	// etcdBound is how long a member may need: handing over the leadership, and open requests.
	etcdBound = 10 * time.Second
)

func budgetsLeaveEnough(s *setup, r *report) {
	for _, b := range s.budgets {
		for _, w := range s.workloads() {
			if !matches(r, b.Spec.Selector, w) {
				continue
			}
			most := max(1, w.replicas-1) // a single hub is enough; of a single pod none is left
			if w.name == "connhub-etcd" {
				most = max(1, (w.replicas-1)/2)
			}
			n := b.Spec.MaxUnavailable
			r.want(n != nil && n.Type == intstr.Int &&
				n.IntValue() >= 1, "PodDisruptionBudget %s: no node could be drained", b.Name)
			r.want(n != nil && n.IntValue() <= most,
				"PodDisruptionBudget %s: may take more than %d of %d", b.Name, most, w.replicas)
			r.want(b.Spec.MinAvailable == nil, "PodDisruptionBudget %s: minAvailable does not "+
				"follow the replicas", b.Name)
		}
	}
}

func graceCovers(s *setup, r *report) {
	for _, w := range s.workloads() {
		need := etcdBound + margin
		if w.name != "connhub-etcd" {
			delay, period := drainOf(s, r)
			need = delay + period + shutdownBound + margin
			r.want(delay >= 5*time.Second, "%s: it would refuse clients that proxies still send "+
				"to it", w.name)
		}
		l := w.container().Lifecycle
		r.want(l == nil || l.PostStart == nil,
			"%s: there is no program for a postStart in the image", w.name)
		r.want(l == nil || l.PreStop == nil,
			"%s: a preStop delays the stop, and the hub itself waits for proxies", w.name)
		grace := 30 * time.Second // Kubernetes' default
		if g := w.template.Spec.TerminationGracePeriodSeconds; g != nil {
			grace = time.Duration(*g) * time.Second
		}
		r.want(grace >= need, "%s: %v to stop, it needs %v", w.name, grace, need)
	}
}

// drainOf returns the times of the hubs' drain. The overlays name both, beside the grace that must
// cover them.
func drainOf(s *setup, r *report) (delay, period time.Duration) {
	v := s.pod(s.hub(), 0).variables()
	for name, into := range map[string]*time.Duration{
		"CONNHUB_DRAIN_DELAY": &delay, "CONNHUB_DRAIN_PERIOD": &period,
	} {
		var err error
		*into, err = time.ParseDuration(v[name])
		r.want(err == nil, "%s is %q, want a duration", name, v[name])
	}
	return delay, period
}

func rolloutIsGentle(s *setup, r *report) {
	strategy := s.deployments[0].Spec.Strategy
	u := strategy.RollingUpdate
	if strategy.Type != appsv1.RollingUpdateDeploymentStrategyType ||
		u == nil || u.MaxUnavailable == nil || u.MaxSurge == nil {
		r.add("the hubs' rolling update is not said")
		return
	}
	r.want(u.MaxUnavailable.String() == "0", "an update takes %s hubs away first",
		u.MaxUnavailable.String())
	r.want(u.MaxSurge.IntValue() == 1, "an update starts %s hubs at once: their clients come "+
		"back at once", u.MaxSurge.String())
	r.want(s.folder == dev || s.deployments[0].Spec.MinReadySeconds >= 10,
		"clients of one hub are not back before the next one stops")
	r.want(
		s.folder != production || s.hub().replicas >= 3, "%d hubs in production", s.hub().replicas,
	)
	r.want(s.hub().replicas >= 2, "%d hubs: nothing to find each other", s.hub().replicas)
}

func podsSpread(s *setup, r *report) {
	over := func(w workload, key string) *corev1.TopologySpreadConstraint {
		all := w.template.Spec.TopologySpreadConstraints
		i := slices.IndexFunc(all, func(c corev1.TopologySpreadConstraint) bool {
			return c.TopologyKey == key
		})
		if i < 0 {
			r.add("%s: not spread over %s", w.name, key)
			return &corev1.TopologySpreadConstraint{}
		}
		r.want(all[i].MaxSkew == 1, "%s: skew %d over %s", w.name, all[i].MaxSkew, key)
		return &all[i]
	}
	nodes, zones := over(s.hub(), corev1.LabelHostname), over(s.hub(), corev1.LabelTopologyZone)
	r.want(zones.WhenUnsatisfiable == corev1.ScheduleAnyway,
		"hubs do not start where zones are uneven")
	// Old pods of a rolling update would count, and leave the new ones crooked.
	r.want(slices.Contains(nodes.MatchLabelKeys, appsv1.DefaultDeploymentUniqueLabelKey),
		"hubs are spread with those of the version before")
	over(s.etcd(), corev1.LabelTopologyZone)
	if s.folder == production {
		r.want(nodes.WhenUnsatisfiable == corev1.DoNotSchedule,
			"two hubs of a version may lie on one node")
		r.want(nodes.NodeTaintsPolicy != nil &&
			*nodes.NodeTaintsPolicy == corev1.NodeInclusionPolicyHonor,
			"a lost node keeps hubs from starting")
	} else {
		r.want(nodes.WhenUnsatisfiable == corev1.ScheduleAnyway,
			"a small cluster can not run the hubs")
	}
	apart := false
	if a := s.etcd().template.Spec.Affinity; a != nil && a.PodAntiAffinity != nil {
		for _, term := range a.PodAntiAffinity.RequiredDuringSchedulingIgnoredDuringExecution {
			apart = apart || term.TopologyKey == corev1.LabelHostname
		}
	}
	r.want(apart, "two members of etcd may lie on one node")
}

var (
	fixedImage = regexp.MustCompile(
		`^[a-z0-9./-]+(:v?[0-9]+\.[0-9]+\.[0-9]+|(:[\w.-]+)?@sha256:[0-9a-f]{64})$`,
	)
	etcdModule = regexp.MustCompile(`(?m)^\tgo\.etcd\.io/etcd/server/v3 (v\S+)$`)
)

func imagesPinned(s *setup, r *report) {
	for _, w := range s.workloads() {
		image := w.container().Image
		// The image that `make image VERSION=dev` builds does not leave the machine.
		local := w.name == "connhub" && s.folder != production && image == "connhub:dev"
		r.want(local ||
			fixedImage.MatchString(image), "%s: %s may be another image tomorrow", w.name, image)
		r.want(w.container().ImagePullPolicy != corev1.PullAlways,
			"%s: a pod can't start while the registry is away", w.name)
	}
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		r.add("%v", err)
		return
	}
	version := etcdModule.FindSubmatch(text)
	if version == nil {
		r.add("the project's go.mod does not name its etcd")
		return
	}
	image := s.etcd().container().Image
	r.want(strings.HasSuffix(image, ":"+
		string(version[1])), "etcd is %s, the hub is tested with %s", image, version[1])
}

// podsConfined asks the code that admits pods into a namespace with the label "restricted", and for
// more.
func podsConfined(s *setup, r *report) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		r.add("%v", err)
		return
	}
	level := psa.LevelVersion{Level: psa.LevelRestricted, Version: psa.LatestVersion()}
	for _, w := range s.workloads() {
		result := policy.AggregateCheckResults(
			evaluator.EvaluatePod(level, &w.template.ObjectMeta, &w.template.Spec),
		)
		r.want(result.Allowed, "%s is not let in: %s", w.name, result.ForbiddenDetail())
		spec, c := w.template.Spec, w.container().SecurityContext
		r.want(c != nil && c.ReadOnlyRootFilesystem != nil &&
			*c.ReadOnlyRootFilesystem, "%s may write into its image", w.name)
		r.want(spec.AutomountServiceAccountToken != nil &&
			!*spec.AutomountServiceAccountToken, "%s gets a token for Kubernetes", w.name)
		user := spec.SecurityContext
		if user == nil || user.RunAsUser == nil || user.FSGroup == nil {
			r.add("%s: no user, or no group for its volumes", w.name)
			continue
		}
		r.want(*user.RunAsUser == imageUser(r) && *user.FSGroup == *user.RunAsUser,
			"%s runs as %d, group of volumes %d; the image says %d", w.name, *user.RunAsUser,
			*user.FSGroup, imageUser(r))
	}
}

var userLine = regexp.MustCompile(`(?m)^USER (\d+):`)

func imageUser(r *report) int64 {
	text, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	line := userLine.FindSubmatch(text)
	if err != nil || line == nil {
		r.add("Dockerfile: no USER with a number (%v)", err)
		return 0
	}
	user, _ := strconv.ParseInt(string(line[1]), 10, 64)
	return user
}

// budgetFlags are the flags whose sizes come out of the hub's memory. Without them the hub takes a
// share of its limit.
var budgetFlags = []string{"CONNHUB_HELD_BYTES", "CONNHUB_INBOUND_BYTES", "CONNHUB_CALL_BYTES"}

// requestIDBytes is the size of a request id, as the help of --request-ids states it.
const requestIDBytes = 800

// memorySuffices wants the budgets of a hub to leave half of its memory for all that has no budget.
func memorySuffices(s *setup, r *report) {
	limit, variables := s.hub().container().Resources.Limits.Memory().Value(),
		s.pod(s.hub(), 0).variables()
	var sum int64
	for _, name := range budgetFlags {
		size, ok := variables[name]
		if !ok {
			continue
		}
		n, err := resource.ParseQuantity(strings.TrimSuffix(size, "B"))
		r.want(err == nil, "%s=%s is no size", name, size)
		sum += n.Value()
	}
	if ids, ok := variables["CONNHUB_REQUEST_IDS"]; ok {
		n, err := strconv.ParseInt(ids, 10, 64)
		r.want(err == nil, "CONNHUB_REQUEST_IDS=%s is no number", ids)
		sum += n * requestIDBytes
	}
	r.want(2*sum <= limit, "the budgets of the hub are %d bytes, above half of its memory "+
		"limit of %d", sum, limit)
	for _, argument := range s.hub().container().Args {
		for _, name := range append([]string{"CONNHUB_REQUEST_IDS"}, budgetFlags...) {
			flag := "--" + strings.ToLower(
				strings.ReplaceAll(strings.TrimPrefix(name, "CONNHUB_"), "_", "-"),
			)
			r.want(!strings.HasPrefix(argument, flag),
				"%s is an argument: set %s, which this rule reads", flag, name)
		}
	}
}

func resourcesSaid(s *setup, r *report) {
	for _, w := range s.workloads() {
		resources := w.container().Resources
		r.want(!resources.Requests.Cpu().IsZero() &&
			!resources.Requests.Memory().IsZero(), "%s: no requests", w.name)
		r.want(!resources.Limits.Memory().IsZero(), "%s: no limit of memory", w.name)
		r.want(s.folder == dev || resources.Limits.Memory().Equal(*resources.Requests.Memory()),
			"%s: asks for less memory than it may take", w.name)
		r.want(resources.Limits.Cpu().IsZero(), "%s: would be throttled, and answer late", w.name)
	}
	limit := s.hub().container().Resources.Limits.Memory().Value()
	goLimit, err := resource.ParseQuantity(
		strings.TrimSuffix(s.pod(s.hub(), 0).variables()["GOMEMLIMIT"], "B"),
	)
	r.want(err == nil && goLimit.Value()*10 <= limit*9 && goLimit.Value()*10 >= limit*8,
		"GOMEMLIMIT is %s of %d bytes, want 80 to 90 %%", goLimit.String(), limit)

	p := s.pod(s.etcd(), 0)
	quota, err := strconv.ParseInt(p.variables()["ETCD_QUOTA_BACKEND_BYTES"], 10, 64)
	r.want(err == nil && quota > 0, "etcd: no quota")
	for _, c := range p.claims {
		// The log keeps up to five files of 64 MiB, and snapshots lie beside it.
		size := c.Spec.Resources.Requests.Storage().Value()
		r.want(size >= 2*quota, "etcd: a volume of %d bytes for %d of data", size, quota)
	}
}
