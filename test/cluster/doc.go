// Package cluster has tests alone. They prove the promises of several hubs and their etcd, as users
// run them.
//
// Purpose: some promises hold while all hubs are well: each message once, joins that are seen
// everywhere, whole pages. Others hold while a hub hangs or is killed, a link is cut, or etcd is
// away.
//
// Life: a test opens a cluster: hubs and etcd's members are processes. It stops, kills and starts
// them, and cuts the network between them (relay_test.go). The test program itself plays etcd's
// members and large audiences, in processes of their own. CONNHUB_TEST_LONG=1 makes the tests
// longer: `make test-cluster`.
//
// Locking, backpressure, errors: there is no code but tests.
package cluster
