// Package dial is the way of commands to a hub: the flags that name a hub, the connection to its
// control port, calls with time limits, and the parts that all answers have in common.
//
// Errors: a command gets the error of a call in the words of [Client.WordError]: the code, the
// wrong fields, the reason, and advice. A wrong flag is a usage error.
//
// Locking: a [Client] is safe for concurrent use. Its Flags must not change while it is in use.
package dial
