// Package bed is the test bed that the tests of processes, of several hubs, links and strangers
// share. Only tests import it.
//
// Purpose: it builds the binary as users do. It runs hubs in processes (Process), with arguments
// that tests share (args.go), and the commands of operators (Program). It runs the test program
// itself in a role, in processes of their own (Helper): etcd's members, or clients by the thousand.
// Its WebSocket client (Client) shares no code with the hub, so that a mistake on both sides cannot
// hide itself.
//
// Life: a package's TestMain calls Main. The processes and clients that a test starts end with that
// test. Processes end with the test program, also if it panics.
//
// Goroutines: one follows the log of each Process, and one reads the answers of each Helper. Both
// end with their process.
//
// Locking: a Process and a Helper belong to the goroutine of their test, except where their methods
// say more. A Client belongs to the goroutine that reads; others may write whole frames.
//
// Backpressure: a Helper that is not heard stands still.
//
// Errors: a function that takes a *testing.T ends the test. The others return their errors.
package bed
