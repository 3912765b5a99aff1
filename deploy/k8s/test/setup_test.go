package k8s

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

// Folders of the setups.
const (
	base       = "base"
	dev        = "overlays/dev"
	production = "overlays/production"
)

var setupFolders = []string{base, dev, production}

// setup holds the objects that a folder builds.
type setup struct {
	folder string

	namespaces  []*corev1.Namespace
	configMaps  []*corev1.ConfigMap
	secrets     []*corev1.Secret
	services    []*corev1.Service
	deployments []*appsv1.Deployment
	sets        []*appsv1.StatefulSet
	budgets     []*policyv1.PodDisruptionBudget
	policies    []*networkingv1.NetworkPolicy

	readme readme

	// Values of the Secrets that the installer makes, by name and key; nil: every documented key
	// has some.
	given map[string]map[string]string
}

// built builds a folder once; setups are decoded anew from it, so that a test may break its own.
var built = func() map[string]func() ([][]byte, error) {
	all := make(map[string]func() ([][]byte, error))
	for _, folder := range setupFolders {
		all[folder] = sync.OnceValues(func() ([][]byte, error) {
			return build(filepath.Join(deployment, folder))
		})
	}
	return all
}()

func build(folder string) ([][]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(
		filesys.MakeFsOnDisk(), folder,
	)
	if err != nil {
		return nil, err
	}
	var objects [][]byte
	for _, r := range resources.Resources() {
		text, err := r.AsYAML()
		if err != nil {
			return nil, err
		}
		objects = append(objects, text)
	}
	return objects, nil
}

// loadSetup fails the test when the folder does not build or Kubernetes does not know an object in
// this form.
func loadSetup(t *testing.T, folder string) *setup {
	t.Helper()
	objects, err := built[folder]()
	if err != nil {
		t.Fatal(err)
	}
	s := &setup{folder: folder, readme: readme{
		secrets: maps.Clone(documents.secrets), commands: documents.commands,
	}}
	for _, text := range objects {
		if err := s.add(text); err != nil {
			t.Fatalf("%s: %v\n%s", folder, err, text)
		}
	}
	return s
}

// decoder knows these groups and no others, and no field that they don't have.
var decoder = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, policyv1.AddToScheme, networkingv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return json.NewSerializerWithOptions(
		json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true},
	)
}()

func (s *setup) add(text []byte) error {
	object, kind, err := decoder.Decode(text, nil, nil)
	if err != nil {
		return err
	}
	switch o := object.(type) {
	case *corev1.Namespace:
		s.namespaces = append(s.namespaces, o)
	case *corev1.ConfigMap:
		s.configMaps = append(s.configMaps, o)
	case *corev1.Secret:
		s.secrets = append(s.secrets, o)
	case *corev1.Service:
		s.services = append(s.services, o)
	case *appsv1.Deployment:
		s.deployments = append(s.deployments, o)
	case *appsv1.StatefulSet:
		s.sets = append(s.sets, o)
	case *policyv1.PodDisruptionBudget:
		s.budgets = append(s.budgets, o)
	case *networkingv1.NetworkPolicy:
		s.policies = append(s.policies, o)
	default:
		return fmt.Errorf("no rule looks at a %s", kind)
	}
	return nil
}

// workload has the fields that Deployment and StatefulSet have in common.
type workload struct {
	name     string
	replicas int
	selector *metav1.LabelSelector
	template *corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
}

func (s *setup) workloads() []workload { return []workload{s.hub(), s.etcd()} }

func (s *setup) hub() workload {
	d := s.deployments[0]
	return workload{d.Name, replicas(d.Spec.Replicas), d.Spec.Selector, &d.Spec.Template, nil}
}

func (s *setup) etcd() workload {
	set := s.sets[0]
	return workload{
		set.Name, replicas(set.Spec.Replicas),
		set.Spec.Selector, &set.Spec.Template, set.Spec.VolumeClaimTemplates,
	}
}

func replicas(n *int32) int {
	if n == nil {
		return 1 // Kubernetes' default
	}
	return int(*n)
}

// container returns the only container of a workload's pods. loadSetup's callers may rely on it:
// TestEachSetupHasItsParts.
func (w workload) container() *corev1.Container { return &w.template.Spec.Containers[0] }

func (s *setup) service(name string) *corev1.Service {
	i := slices.IndexFunc(s.services, func(o *corev1.Service) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return s.services[i]
}

func TestEachSetupHasItsParts(t *testing.T) {
	for _, folder := range setupFolders {
		t.Run(folder, func(t *testing.T) {
			s := loadSetup(t, folder)
			if len(s.deployments) != 1 ||
				len(s.sets) != 1 || len(s.configMaps) != 1 || len(s.services) != 3 ||
				len(s.budgets) != 2 || len(s.policies) != 2 || len(s.namespaces) > 1 {
				t.Fatalf("%d deployments, %d stateful sets, %d config maps, %d services, %d "+
					"budgets, %d policies, %d namespaces",
					len(s.deployments), len(s.sets), len(s.configMaps), len(s.services),
					len(s.budgets), len(s.policies), len(s.namespaces))
			}
			for _, w := range s.workloads() {
				if spec := w.template.Spec; len(spec.Containers) != 1 ||
					len(spec.InitContainers) != 0 {
					t.Fatalf("%s: %d containers, %d init containers",
						w.name, len(spec.Containers), len(spec.InitContainers))
				}
			}
		})
	}
}

func TestDecodingRefusesWhatKubernetesDoesNotKnow(t *testing.T) {
	for name, text := range map[string]string{
		"kind":  "apiVersion: apps/v1\nkind: Deploymint\nmetadata: {name: x}\n",
		"group": "apiVersion: example.com/v1\nkind: Deployment\nmetadata: {name: x}\n",
		"field": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: " +
			"{replica: 3}\n",
		"type of a value": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: " +
			"{replicas: three}\n",
		"same key twice": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: " +
			"{replicas: 3, replicas: 4}\n",
		"kind for us": "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\n",
	} {
		if err := (&setup{}).add([]byte(text)); err == nil {
			t.Errorf("an unknown %s was taken", name)
		}
	}
}
