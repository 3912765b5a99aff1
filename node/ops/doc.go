// Package ops is the operations port of a hub: health, metrics, profiles, and the self-check.
//
// /healthz and /readyz answer everybody. The rest demands a secret, or that the request comes from
// this machine. Half of the connections are kept for the former, and each request is bounded in
// time and bytes.
//
// Locking: the reason why the hub is not ready is atomic, all else is static after [New].
package ops
