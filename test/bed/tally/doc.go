// Package tally counts the messages that arrive, and compares them with those that were sent. Only
// tests import it.
//
// Purpose: a Crowd of Members, clients that count their messages, and Callers, backends that send
// to all kinds of targets and add up their receipts. The model is simple: a walk through all
// members that a target names.
//
// Life: a test adds members, connects and identifies them, and lets them read. Callers send. Behind
// them the test says LastWord, waits with AwaitEnd, and checks. Disperse ends all connections.
//
// Goroutines: one for each member that reads, until its connection is over.
//
// Locking: none. The fields of a Member name their owner. Callers run at once, each in a goroutine
// of its own; they only read the Crowd.
//
// Backpressure: a Caller sends when its message before is written everywhere.
//
// Errors: a function that takes a *testing.T reports to the test. The others return their errors.
package tally
