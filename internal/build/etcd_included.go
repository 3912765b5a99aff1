//go:build !no_embedded_etcd

package build

// HasEtcd reports whether this binary has etcd's server: false with -tags no_embedded_etcd.
const HasEtcd = true
