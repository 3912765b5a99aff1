package k8s

import (
	"flag"
	"path"
	"slices"
	"strings"

	"go.etcd.io/etcd/server/v3/embed"
	corev1 "k8s.io/api/core/v1"
)

// etcdFlags are etcd's own, and those that its command adds to them and we use.
var etcdFlags = func() *flag.FlagSet {
	fs := flag.NewFlagSet("etcd", flag.ContinueOnError)
	embed.NewConfig().AddFlags(fs)
	fs.String("initial-cluster-state", "", "")
	return fs
}()

// Variables of neither program: of Go's runtime, for other variables, and etcdctl's.
var otherVariables = []string{
	"GOMEMLIMIT", "POD_IP", "ETCDCTL_ENDPOINTS", "ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY",
}

func flagsExist(s *setup, r *report) {
	for _, w := range s.workloads() {
		c := w.container()
		all, _ := s.pod(w, 0).environment()
		for _, v := range all {
			prefix, rest, _ := strings.Cut(v.name, "_")
			name := strings.ReplaceAll(strings.ToLower(rest), "_", "-")
			switch {
			case slices.Contains(otherVariables, v.name):
			case w.name == "connhub" && prefix == "CONNHUB":
				r.want(hubFlags[name], "%s: connhub serve has no --%s", v.name, name)
			case w.name == "connhub-etcd" && prefix == "ETCD":
				r.want(etcdFlags.Lookup(name) != nil, "%s: etcd has no --%s", v.name, name)
			default:
				r.add("%s: %s means nothing to the program", w.name, v.name)
			}
		}
		for _, arg := range c.Args {
			name, _, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			r.want(arg == "serve" ||
				w.name == "connhub" && strings.HasPrefix(arg, "--") && hubFlags[name],
				"%s: the program does not take %s", w.name, arg)
		}
	}
	c := s.hub().container()
	r.want(len(c.Command) == 0 && len(c.Args) > 0 && c.Args[0] == "serve",
		"the hub is started with %v %v: the image's own command is connhub, and it needs serve",
		c.Command, c.Args)
	v := s.pod(s.hub(), 0).variables()
	r.want(v["CONNHUB_INSECURE_DEV"] == "" &&
		v["CONNHUB_SINGLE_HUB"] == "", "a hub of several must be neither insecure nor single")
}

func variablesResolve(s *setup, r *report) {
	for _, w := range s.workloads() {
		_, problems := s.pod(w, 0).environment()
		for _, problem := range problems {
			r.add("%s: %s", w.name, problem)
		}
		r.want(w.template.Spec.EnableServiceLinks != nil && !*w.template.Spec.EnableServiceLinks,
			"%s: Kubernetes adds variables for Services, CONNHUB_CLIENTS_PORT for one", w.name)
	}
}

func secretsDocumented(s *setup, r *report) {
	for _, w := range s.workloads() {
		p := s.pod(w, 0)
		_, problems := p.files()
		for _, problem := range problems {
			r.add("%s: %s", w.name, problem)
		}
		_, problems = p.environment()
		for _, problem := range problems {
			r.add("%s: %s", w.name, problem)
		}
	}
	if s.folder != dev {
		r.want(len(s.secrets) == 0, "a Secret with its values in %s", s.folder)
	}
	for _, secret := range s.secrets {
		keys := s.readme.secrets[secret.Name].keys
		r.want(len(keys) == len(secret.Data), "Secret %s: %d keys, README.md has %v",
			secret.Name, len(secret.Data), keys)
		for key, value := range secret.Data {
			r.want(slices.Contains(keys, key), "Secret %s: key %s is not in README.md",
				secret.Name, key)
			r.want(strings.HasPrefix(
				string(value), "dev-only-",
			), "Secret %s: %s does not say that it is for trying out", secret.Name, key)
		}
	}
	for name, d := range s.readme.secrets {
		line := ""
		for command := range strings.SplitSeq(s.readme.commands, "\n") {
			if strings.Contains(command+" ", " "+name+" ") {
				line = command
			}
		}
		for _, key := range d.keys {
			made := strings.Contains(line+" ", "--from-file="+key+" ") ||
				strings.Contains(line, "--from-literal="+key+"=") ||
				strings.HasPrefix(line, "kubectl create secret tls ") &&
					strings.HasPrefix(key, "tls.")
			r.want(made, "README.md: no command makes %s of the Secret %s", key, name)
		}
	}
}

// readable tells whether a variable names a file that the program reads.
func readable(name string) bool {
	return strings.HasSuffix(name, "_FILE") || slices.Contains(
		[]string{"ETCDCTL_CACERT", "ETCDCTL_CERT", "ETCDCTL_KEY"}, name,
	)
}

func filesMounted(s *setup, r *report) {
	for _, w := range s.workloads() {
		p := s.pod(w, 0)
		files, _ := p.files()
		used := make(map[string]bool)
		for name, value := range p.variables() {
			if !readable(name) {
				continue
			}
			for _, file := range list(value) {
				used[file] = true
				_, ok := files[file]
				r.want(ok, "%s: %s is not mounted", name, file)
			}
		}
		for file := range files {
			r.want(used[file], "%s: nothing reads %s", w.name, file)
		}
		mountsFit(p, r)
	}
	p := s.pod(s.etcd(), 0)
	data := p.variables()["ETCD_DATA_DIR"]
	r.want(slices.ContainsFunc(p.container().VolumeMounts, func(m corev1.VolumeMount) bool {
		return !m.ReadOnly && strings.HasPrefix(data, m.MountPath+"/")
	}), "ETCD_DATA_DIR: %s is on no volume that can be written, or is its root", data)
}

// mountsFit: each mount has its volume, each volume its mount, and Secrets are read only.
func mountsFit(p pod, r *report) {
	var mounted []string
	for _, m := range p.container().VolumeMounts {
		mounted = append(mounted, m.Name)
		v := p.volume(m.Name)
		r.want(v != nil || p.claim(m.Name) != nil, "%s: no volume %s", p.workload.name, m.Name)
		r.want(path.IsAbs(m.MountPath) && m.SubPath == "" && m.SubPathExpr == "",
			"%s: %s is mounted at %q, part of it: changes would not arrive", p.workload.name,
			m.Name, m.MountPath)
		if v == nil || v.Projected == nil {
			continue
		}
		r.want(m.ReadOnly, "%s: secrets of %s can be written", p.workload.name, m.Name)
		r.want(v.Projected.DefaultMode != nil && *v.Projected.DefaultMode == 0o440,
			"%s: mode of %s is not 0440", p.workload.name, m.Name)
	}
	for _, v := range p.template.Spec.Volumes {
		r.want(slices.Contains(mounted, v.Name), "%s: volume %s is mounted nowhere",
			p.workload.name, v.Name)
		r.want(v.Projected != nil || v.EmptyDir != nil,
			"%s: volume %s is of a kind that no rule looks at", p.workload.name, v.Name)
		r.want(v.EmptyDir == nil ||
			p.setup.folder == dev, "%s: volume %s goes with the pod", p.workload.name, v.Name)
		r.want(p.claim(v.Name) == nil, "%s: volume %s hides the claim", p.workload.name, v.Name)
	}
	for _, c := range p.claims {
		r.want(slices.Contains(mounted, c.Name), "%s: claim %s is mounted nowhere",
			p.workload.name, c.Name)
	}
}
