// Package test holds the tests that span packages: what the whole promises, proved on real sockets.
//
// Purpose: a promise of the product ("each member gets each message exactly once", "strangers on a port
// disturb nobody") is not one package's, so its test is here. Web, beside the Go tests, has those that need
// a browser or a backend in another language; lint proves that the linter holds the import rule.
//
// Life: a test opens a house, the hub with its doors in this process (house_test.go), or starts the binary as users
// do (binary_test.go), and brings clients of its own (client_test.go) that know nothing of our code, so that a
// mistake of ours on both sides can't hide itself.
//
// The tests of the cluster (cluster_*_test.go) run hubs and etcd as processes, stop, kill and start them, and cut the network
// between them (relay_test.go). This program plays etcd's members and large audiences itself, in processes of their own
// (role_test.go). CONNHUB_TEST_LONG=1 makes them longer: `make test-cluster`.
//
// The tests of many links (door_test.go: behind each way in which a hub carries them) start the binary and bring guests
// (guests_test.go), clients by the thousand, each with its manners, in processes of their own: `make test-links` is the long form.
//
// Locking, backpressure, errors: there is no code but tests.
package test
