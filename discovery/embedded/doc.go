// Package embedded runs a single etcd server inside the process, for `connhub dev` and for tests.
//
// etcd's server brings more modules than all the rest of the program needs without it, so it is
// imported here only, tests aside.
//
// # The build tag
//
// By default the server is in the binary. With -tags no_embedded_etcd it is not: absent.go takes
// its place, build.HasEtcd is false, and Start returns ErrNotIncluded. The container image is built
// so. Tests need the server, so they run without the tag.
//
// # Life of an etcd
//
// Start locks the folder, starts the server, and returns when it answers. Etcd.Wait tells when the
// server can't go on. Etcd.Close stops the server; the data stays in the folder.
//
// # Goroutines
//
// The server's are etcd's own, and Close waits for them. A goroutine of Start ends when the
// server has started. If etcd can't go on, its goroutine is held until Close.
//
// # Errors
//
// Start returns ErrInUse for a folder that another process has, and syscall.EADDRINUSE for an
// address that another process has.
package embedded
