// Package links has tests alone. They prove that a hub keeps its promises to its clients, however
// many there are, and beside neighbours that misbehave.
//
// Purpose: each message comes once (exactlyonce_test.go), also while floods come (floods_test.go).
// Thousands of links end in seconds and leave nothing behind (massclose_test.go). A socket that is
// used again belongs to the new client (reuse_test.go). A hub that was stopped keeps its clients
// (stall_test.go).
//
// Life: a test opens a house, the hub with its doors in this process (house_test.go), or starts the
// binary for each way in which a hub carries links (door_test.go). It brings guests
// (guests_test.go): clients by the thousand with different manners, in processes of their own.
// CONNHUB_TEST_LONG=1 makes the tests longer: `make test-links`.
//
// Locking, backpressure, errors: there is no code but tests.
package links
