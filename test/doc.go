// Package test holds the tests that span packages: they prove the promises of the whole product on
// real sockets.
//
// Purpose: a promise of the product ("each member gets each message exactly once", "strangers on a
// port disturb no call") belongs to no single package, so its test is here. The folder web has the
// tests that need a browser or a backend in a language besides Go. The folder lint has the checks
// of the source, and proves that the linter holds the import rule.
//
// Life: a test opens a house, the hub with its doors in this process (house_test.go), or starts the
// binary as users do (package bed).
//
// The tests of the cluster (cluster_*_test.go) run hubs and etcd as processes. They stop, kill and
// start them, and cut the network between them (relay_test.go). This program itself plays etcd's
// members and large audiences, in processes of their own. CONNHUB_TEST_LONG=1 makes
// these tests longer: `make test-cluster`.
//
// The tests of many links (door_test.go) start the binary for each way in which a hub carries
// links, and bring guests (guests_test.go): clients by the thousand with different manners, in
// processes of their own. `make test-links` is the long form.
//
// Locking, backpressure, errors: there is no code but tests.
package test
