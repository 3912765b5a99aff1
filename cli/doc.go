// Package cli has the commands of operators: send, connections, groups, permissions, events, hubs
// and token. They are clients of the gRPC API that every backend uses, and have no other way in.
//
// The rooms below it serve the benches too: dial is the way to a hub, terminal the input and
// output.
//
// A command is a struct of flags with a method Run. Package main parses the command line into
// [Commands], and package kong calls Run.
//
// Goroutines: `send -` reads its input, writes and reads a stream with a goroutine each; `events
// tail` has one for each hub. All but the reader of the input end with the command.
//
// Locking: none. The goroutines of a command pass messages.
//
// Errors: a wrong command line is a usage error (exit 2); nothing was tried then. Everything else
// exits 1.
package cli
