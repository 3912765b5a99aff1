// Package strangers has tests alone. They prove that a hub stands visitors without a right to be
// there: random bytes on each port, and tokens from unknown issuers.
//
// Life: a test starts the binary. CONNHUB_TEST_LONG=1 brings more strangers: `make test-links`.
//
// Locking, backpressure, errors: there is no code but tests.
package strangers
