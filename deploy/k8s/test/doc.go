// Package k8s checks the statements of deploy/k8s against the behaviour of the binary. It is a
// module of its own, so that kustomize, the types of Kubernetes and all of etcd stay out of the
// hub's go.mod.
//
// # Checks
//
// Kustomize's Go API builds each setup (the base and the overlays). The result is decoded strictly:
// a kind or a field that Kubernetes does not know is an error. Then rules (the *_rules_test.go
// files) check the objects: variables against the flags of the binary and of etcd, ports against
// listen addresses, selectors against labels, mounted files against the variables that name them,
// Secrets against the table in README.md, and so on. A rule returns all problems that it finds.
// mutation_test.go breaks the objects in memory, a single fault at a time, and requires that the
// rule reports the fault.
//
// Finally the pods run, as processes (run_test.go): containers with the variables, files and
// arguments that Kubernetes would give them. Each pod has a loopback address of its own, so that
// ports stay the same. Names of pods become those addresses, and certificates have the names that
// README.md tells. The probes are called as the kubelet calls them.
//
// # Not checked
//
// No Kubernetes sees the objects. Defaults, quotas, the effect of network policies and the images
// themselves are not tested.
//
// # Goroutines
//
// Each process has a goroutine that waits for its end. The test that started the process waits for
// the goroutine.
package k8s
