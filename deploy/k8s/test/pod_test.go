package k8s

import (
	"encoding/base64"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// pod is a pod of a workload as Kubernetes would start it.
type pod struct {
	workload

	setup *setup
	name  string
	ip    string
}

// pod returns the pod with a number. A Deployment's pods have different names; nothing depends on
// them.
func (s *setup) pod(w workload, number int) pod {
	return pod{
		workload: w, setup: s, name: fmt.Sprintf("%s-%d", w.name, number),
		ip: fmt.Sprintf("192.0.2.%d", number+1),
	}
}

type variable struct{ name, value string }

// environment returns the variables that the kubelet gives the container, in its order, and all
// problems with them.
func (p pod) environment() (all []variable, problems []string) {
	complain := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf(format, args...))
	}
	known := make(map[string]string)
	add := func(name, value string) {
		if _, twice := known[name]; twice {
			complain("%s is set twice", name)
		}
		known[name] = value
		all = append(all, variable{name, value})
	}
	c := p.container()
	for _, from := range c.EnvFrom {
		if from.ConfigMapRef == nil || from.SecretRef != nil || from.Prefix != "" {
			complain("envFrom is not a plain ConfigMap")
			continue
		}
		data, ok := p.setup.configMap(from.ConfigMapRef.Name)
		if !ok {
			complain("ConfigMap %s is not made", from.ConfigMapRef.Name)
		}
		for _, key := range slices.Sorted(maps.Keys(data)) {
			add(key, data[key])
		}
	}
	for _, e := range c.Env {
		value, err := p.value(e)
		if err != nil {
			complain("%s: %v", e.Name, err)
		}
		value, unknown := expand(value, known)
		for _, name := range unknown {
			complain(
				"%s: $(%s) is not known there: Kubernetes leaves it as it stands", e.Name, name,
			)
		}
		add(e.Name, value)
	}
	return all, problems
}

func (p pod) value(e corev1.EnvVar) (string, error) {
	from := e.ValueFrom
	switch {
	case from == nil:
		return e.Value, nil
	case from.FieldRef != nil:
		fields := map[string]string{
			"metadata.name": p.name, "status.podIP": p.ip, "metadata.namespace": "connhub",
		}
		value, ok := fields[from.FieldRef.FieldPath]
		if !ok {
			return "", fmt.Errorf(
				"field %s is not for pods, or not known here", from.FieldRef.FieldPath,
			)
		}
		return value, nil
	case from.SecretKeyRef != nil:
		return p.setup.secretValue(from.SecretKeyRef.Name, from.SecretKeyRef.Key)
	default:
		return "", fmt.Errorf("comes from where no rule looks")
	}
}

var reference = regexp.MustCompile(`\$\$|\$\([A-Za-z_.-][A-Za-z0-9_.-]*\)`)

// expand replaces $(NAME) by the known value, as Kubernetes does; $$ is a dollar.
func expand(value string, known map[string]string) (expanded string, unknown []string) {
	expanded = reference.ReplaceAllStringFunc(value, func(r string) string {
		if r == "$$" {
			return "$"
		}
		name := r[2 : len(r)-1]
		if v, ok := known[name]; ok {
			return v
		}
		unknown = append(unknown, name)
		return r
	})
	return expanded, unknown
}

func (s *setup) configMap(name string) (map[string]string, bool) {
	for _, m := range s.configMaps {
		if m.Name == name {
			return m.Data, true
		}
	}
	return nil, false
}

// secretValue finds a key of a Secret that the setup makes, or README.md tells to make.
func (s *setup) secretValue(name, key string) (string, error) {
	for _, secret := range s.secrets {
		if secret.Name == name {
			value, ok := secret.Data[key]
			if !ok {
				return "", fmt.Errorf("key %s is not in the Secret %s that is generated", key, name)
			}
			return string(value), nil
		}
	}
	if !slices.Contains(s.readme.secrets[name].keys, key) {
		return "", fmt.Errorf(
			"key %s of the Secret %s is neither made nor in the table of README.md", key, name,
		)
	}
	if s.given == nil {
		return base64.StdEncoding.EncodeToString([]byte("made by whoever installs: " +
			name + "/" + key)), nil
	}
	return s.given[name][key], nil
}

// files returns the files that are mounted from Secrets: path to value.
func (p pod) files() (files map[string]string, problems []string) {
	files = make(map[string]string)
	complain := func(format string, args ...any) {
		problems = append(problems, fmt.Sprintf(format, args...))
	}
	for _, m := range p.container().VolumeMounts {
		v := p.volume(m.Name)
		if v == nil || v.Projected == nil {
			continue
		}
		for _, source := range v.Projected.Sources {
			if source.Secret == nil || len(source.Secret.Items) == 0 {
				complain("volume %s: a source is not a Secret with its keys named", m.Name)
				continue
			}
			for _, item := range source.Secret.Items {
				file := path.Join(m.MountPath, item.Path)
				value, err := p.setup.secretValue(source.Secret.Name, item.Key)
				if err != nil {
					complain("%s: %v", file, err)
				}
				if _, twice := files[file]; twice {
					complain("%s is mounted twice", file)
				}
				files[file] = value
			}
		}
	}
	return files, problems
}

func (p pod) volume(name string) *corev1.Volume {
	for i, v := range p.template.Spec.Volumes {
		if v.Name == name {
			return &p.template.Spec.Volumes[i]
		}
	}
	return nil
}

func (p pod) claim(name string) *corev1.PersistentVolumeClaim {
	for i, c := range p.claims {
		if c.Name == name {
			return &p.claims[i]
		}
	}
	return nil
}

// variables is environment as a map, for rules that look at values.
func (p pod) variables() map[string]string {
	all, _ := p.environment()
	m := make(map[string]string, len(all))
	for _, v := range all {
		m[v.name] = v.value
	}
	return m
}

// host is how members of a StatefulSet are called by their short names.
func (p pod) host() string { return p.name + "." + p.setup.sets[0].Spec.ServiceName }

// list splits a value at commas.
func list(value string) []string { return strings.Split(value, ",") }
