//go:build no_embedded_etcd

package embedded

import "context"

// Etcd can't be had in this binary: Start always fails.
type Etcd struct{}

// Start returns ErrNotIncluded.
func Start(context.Context, Config) (*Etcd, error) { return nil, ErrNotIncluded }

// Endpoint returns "".
func (*Etcd) Endpoint() string { return "" }

// Wait returns nil.
func (*Etcd) Wait() error { return nil }

// Close does nothing.
func (*Etcd) Close() {}
