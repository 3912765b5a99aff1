// Package engine measures the delivery engine beside the kernel alone, which handles the
// same bytes on the same sockets. It has no code but tests, with the build tag "bench", for Linux.
// `make bench` runs them all three times, `make bench BENCH=fanout` a single test, and RUNS=1 once.
//
// Purpose: an absolute time depends on the machine and its mood, a ratio hardly does. The
// reference, "raw", is a loop of write(2) by RawSyscall. It writes the same frames to the sockets
// that the hub writes to: the listener duplicates their descriptors. Rounds of the hub and of the
// reference alternate. A round begins when each client has read exactly the bytes of the round
// before. A run's figure is the median of the ratios of its rounds. Of three runs the median
// counts. CPU is CLOCK_PROCESS_CPUTIME_ID.
//
//	Fanout       Hub.Deliver to 5,000, a message at a time; raw: a write to each
//	Burst        8 messages to 5,000 at once through control; raw: a write of all 8 frames to each
//	Reliable     both, to clients of Web PubSub that confirm; each client has its own numbers in
//	             its messages
//	Unicast      sends to each of 1,000 in turn through control; "empty": the same calls to a
//	             handler that only answers. The figure is the cost of a send without its raw
//	             write, in empty calls
//	Compression  fan-out of 1 KiB of JSON to clients that agreed to permessage-deflate
//	Slow         the time of the loop while 1 % do not read, beside the loop over the rest
//	Connect      a handshake, attach included; raw: net/http with coder/websocket's Accept, and a
//	             handler that reads
//	ConnectToken a handshake with the binary as operators run it: a token names the client's user
//	             and group; raw as for Connect, without a token
//	Idle         memory and goroutines of 15,000 clients; IdleGoroutine and IdleTLS with different
//	             links
//	IdleToken    idle clients of the binary, with a token each that gives it a user and a group
//	Links        a fan-out to clients with a goroutine each, and to clients under TLS; raw for
//	             these: as long writes to as many sockets of a different server
//	Latency      from a backend's call until a client has read the message: of a fan-out ten times
//	             a second, and of sends to a single client; raw: from the beginning of its loop.
//	             The targets are times of the fastest competitors on a quiet machine: compare
//	             them with the times of raw
//	Binary       fan-out, bursts, unicast and idle clients of the shipped binary, which may be 0.1
//	             worse; raw: as many sockets of a different server
//	Forwarded    unicast to a client of a different hub; beside: to a client of the called hub;
//	             "empty" as for Unicast, over SendStream. The figure is the cost of a send without
//	             the send beside it, in empty calls
//	Shapes       sends of the binary as callers have them: 1, 8 and 64 requests under way with a
//	             send each, on one and on eight streams, from one and from eight connections, and
//	             by Send. ShapesUnicast and ShapesForwarded are as Unicast and Forwarded, with
//	             "empty" in the same shape, ShapesUnicast also with 16 sends in a request.
//	             ShapesGroup is to 5,000; beside: the same sends in one request
//	Rates        latency of unicasts of the binary that are due at a fixed rate (open loop), from
//	             when a send was due; and of 64 requests under way (closed loop), with their rate
//	HeapFloor    unicast of the binary in rounds that are long enough for the collector; beside: a
//	             binary with the floor of Go's collector itself
//	Broadcast    a message to everyone over three hubs; beside: to as many at the called hub
//	Moves        a connection that moves from a hub that drains, CPU of all hubs, with and without
//	             100 messages that its client has not confirmed; beside: its client's connect.
//	             Rows with 5,000 clients are the time of the drain
//
// Life: for each run a test starts this program again in the role "hub". It has hub, edge and
// control with everything on that costs something, and is pinned to a core. It starts the program
// in the role "load", pinned to a second core: raw client sockets and the calling backend. So the
// clock of the hub's process counts nothing else. The two processes talk in lines of JSON over
// pipes. Both end when their standard input does. If a test measures binaries, the process in the
// hub's role starts them on its own core, and adds their clocks to its own. An etcd (role "etcd")
// runs beside the load.
//
// Goroutines: a goroutine reads the clients' sockets in passes, 20 ms apart. More wake-ups would be
// charged to the writing process. If latency is measured, a goroutine waits for the sockets
// instead. Both ends use TCP's reno: bbr, a default on many machines, paces its writes, which moves
// work out of the writing process.
//
// Sleeps: tests sleep where time itself is a part of the measurement. The hub gets a pause for its
// work behind an answer before the clock is read; looking for the end of that work would cost CPU
// of the measured process. Idle clients are silent for two pings. The second half of a frame comes
// half a second after the first.
//
// Locking: the crowd's lock is held during a pass over its sockets, and for changes of them.
// Backpressure: a round is small enough for the sockets' buffers. Errors end the process that finds
// them, and with it the test. A missed target is marked in the table and fails nothing: the cause
// may be the machine.
package engine
