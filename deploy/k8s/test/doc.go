// Package k8s holds what deploy/k8s says against what the binary does. It is a module of its own, so that kustomize, the types of
// Kubernetes and all of etcd stay out of the hub's go.mod.
//
// # What is held
//
// Each setup (the base and the overlays) is built with kustomize's Go API and decoded strictly: a kind or a field
// that Kubernetes does not know is an error. Then rules (the *_rules_test.go files) look at the objects: variables against the
// flags of the real binary and of etcd, ports against listen addresses, selectors against labels, mounted files
// against the variables that name them, Secrets against the table in README.md, and so on. A rule returns all problems that
// it sees. mutation_test.go breaks the objects in memory, one thing at a time, and holds that the rule says so.
//
// At last the pods run, as processes (run_test.go): containers with the variables, files and arguments that Kubernetes would
// give them, each pod at a loopback address of its own, so that ports stay as they are. Names of pods become those
// addresses, certificates are made with the names that README.md tells. The probes are asked as the kubelet asks them.
//
// # What is not
//
// No Kubernetes sees the objects: defaults, quotas, the network policies' effect and the images themselves are not tested.
//
// # Goroutines
//
// One for each process, which waits for its end; the test that started the process waits for it.
package k8s
