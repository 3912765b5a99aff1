package k8s

import (
	"fmt"
	"testing"
)

// rule is something that must be so in every setup.
type rule struct {
	name  string
	check func(*setup, *report)
}

// report collects problems.
type report struct{ problems []string }

func (r *report) add(format string, args ...any) {
	r.problems = append(r.problems, fmt.Sprintf(format, args...))
}

// want adds a problem unless ok.
func (r *report) want(ok bool, format string, args ...any) {
	if !ok {
		r.add(format, args...)
	}
}

var rules = []rule{
	{"variables and flags exist", flagsExist},
	{"variables resolve", variablesResolve},
	{"ports are listened on", portsMatch},
	{"probes reach their port", probesReach},
	{"services reach their pods", servicesReach},
	{"policies name ports and pods", policiesMatch},
	{"selectors match labels", selectorsMatch},
	{"secrets are documented", secretsDocumented},
	{"files are mounted", filesMounted},
	{"budgets leave enough", budgetsLeaveEnough},
	{"grace covers the shutdown", graceCovers},
	{"rollout starts before it stops", rolloutIsGentle},
	{"pods are spread", podsSpread},
	{"images are pinned", imagesPinned},
	{"etcd's members know each other", membersMatch},
	{"certificates have the names", certificatesNamed},
	{"pods are confined", podsConfined},
	{"resources are said", resourcesSaid},
	{"memory suffices for the budgets", memorySuffices},
}

func TestEveryRuleHolds(t *testing.T) {
	for _, folder := range setupFolders {
		for _, rule := range rules {
			t.Run(folder+"/"+rule.name, func(t *testing.T) {
				var r report
				rule.check(loadSetup(t, folder), &r)
				for _, problem := range r.problems {
					t.Error(problem)
				}
			})
		}
	}
}

func TestREADMETellsOfNoSecretThatNobodyNeeds(t *testing.T) {
	needed := make(map[string]bool)
	for _, folder := range setupFolders {
		s := loadSetup(t, folder)
		for _, w := range s.workloads() {
			for _, v := range w.template.Spec.Volumes {
				if v.Projected == nil {
					continue
				}
				for _, source := range v.Projected.Sources {
					needed[source.Secret.Name] = true
				}
			}
		}
	}
	for name := range documents.secrets {
		if !needed[name] {
			t.Errorf("nothing mounts %s", name)
		}
	}
}
