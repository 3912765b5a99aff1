// Package process has tests alone. They prove the promises of the binary as a process, to its
// operator, its supervisor and the system.
//
// Purpose: a hub answers signals (signals_test.go, reload_test.go), and stops in order
// (process_test.go). It works with few files, little memory, or a full disk (files_test.go,
// memory_linux_test.go, disk_test.go). A flood leaves a log of bounded size (flood_test.go). It
// joins its cluster, and starts anew when the others have forgotten it (cluster_test.go,
// forgotten_test.go, restart_test.go). The operator's commands run beside it (bench_test.go,
// tail_test.go).
//
// Life: a test starts the binary, with limits around it if it needs some. Each command line of an
// operator is a process too.
//
// Locking, backpressure, errors: there is no code but tests.
package process
