// Package moving is the shell of the move core (control/mesh/move): it carries out the effects of
// the core, and decides nothing. It knows the connections of this hub, and the executor of calls.
// The links of the mesh are behind an interface, which package mesh implements.
//
//	gate.go        calls begin inside a gate
//	shell.go       the Shell: inputs of the core, and its effects in their order
//	connection.go  effects on connections: methods of hub.Moves
//	call.go        calls that the core knows: carried out in parts, and answered
//	execution.go   the executor of calls, which package control implements
//	take.go        clients that wait for their connections
//	away.go        a hub that leaves moves its connections away
//	room.go        the peers that get them
//	links.go       the links of the mesh, as the shell needs them
//
// # Calls
//
// While no move concerns this hub, the core is idle, and hears of no call. Each call has a number
// all the same (Shell.NumberCall). With the first move the shell adds the calls that wait for
// answers of peers (Links.EachWaitingCall). From then on each call is an input of the core, at the
// hub where it begins and at each hub that carries it out, until the core is idle again.
//
// A call may be carried out in parts: for all connections that don't move, and for each connection
// that has moved meanwhile. Its result is the sum of the parts.
//
// # Locking
//
// The gate comes before all locks. It is closed over an input of the core and all its effects
// (Shell.Do). Code within Do does not wait.
//
// # Goroutines
//
// Run owns a goroutine for each Moves.Freeze, which waits for the client's present command. It does
// the work that comes from places where Do must not be called (Shell.doLater).
package moving
