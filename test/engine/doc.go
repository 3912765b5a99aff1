// Package engine measures the delivery engine beside what the kernel alone takes for the same bytes on the same sockets.
// There is no code but tests, built with the tag "bench" on Linux: `make bench` runs them, `make bench BENCH=fanout` one,
// with RUNS=1 once.
//
// Purpose: an absolute time is a mood of the machine, a ratio is not. The reference, "raw", is a loop of write(2) by
// RawSyscall of the same frames to the sockets that the hub writes to: the listener duplicates their descriptors. Rounds of
// the hub and of the reference alternate, and each begins when the clients have read all of the one before: exactly the bytes
// that it sent, at each client. A figure is the median of the ratios of a run's rounds, and of three runs the one in the
// middle. CPU is CLOCK_PROCESS_CPUTIME_ID.
//
//	Fanout         Hub.Deliver to 5,000, one message at a time; raw: a write to each
//	Burst          8 messages to 5,000 at once through control; raw: one write of the 8 frames to each
//	Reliable       both, to clients of Web PubSub that confirm, each of which has its own numbers in its messages
//	Unicast        sends to one of 1,000 in turn through control; "empty": the same calls, to a handler that only answers.
//	               The figure is what is left of a send when the raw write is taken off, in empty calls
//	Compression    fan-out of 1 KiB of JSON to clients that agreed to permessage-deflate
//	Slow           the time of the loop while 1 % do not read, beside the loop over those who do
//	Connect        a handshake, attach included; raw: net/http with coder/websocket's Accept, and a handler that reads
//	Idle           memory and goroutines of 15,000 clients; IdleGoroutine and IdleTLS with other links
//	Links          a fan-out to clients for each of which a goroutine waits, and to clients under TLS; raw for these: as long
//	               writes to as many sockets of another server
//	Latency        from a backend's call until a client has read the message: of a fan-out ten times a second, and of sends to
//	               one; raw: from the beginning of its loop. The targets are times of the fastest of other servers, on a
//	               machine that is quiet: see what raw takes
//	Binary         fan-out, bursts, unicast and idle clients of the binary that is shipped, which may be 0.1 worse; raw: as many
//	               sockets of another server
//	Forwarded      unicast to a client of another hub; beside: to one of the hub that is called; "empty" as for Unicast, over
//	               SendStream. The figure is what is left when the send beside is taken off, in empty calls
//	Broadcast      a message to everyone over three hubs; beside: to as many at the hub that is called
//
// Life: a test starts this program again for each run, as the hub (role "hub"): hub, edge and control with everything on that
// costs something, pinned to one core. That one starts the load (role "load"), pinned to another: raw client sockets, and the
// backend that calls. So the clock of the hub's process counts nothing else. The two talk in lines of JSON over pipes; both
// end when their standard input does. Where binaries are measured, the process in the hub's role starts them on its own core,
// and adds their clocks to its own; an etcd (role "etcd") runs beside the load.
//
// Goroutines: the clients' sockets are read by one that sleeps for 20 ms between passes, or its wake-ups would be charged to
// who writes; where latency counts, by one that waits for them. Both ends use TCP's reno: bbr, a default on many machines,
// paces, which moves work out of the process that writes. What the hub does behind an answer gets a pause before the clock is
// read: this is the one place where tests sleep.
//
// Locking: the crowd's lock is held for a pass over its sockets, and to change them. Backpressure: a round is small enough for
// the sockets' buffers. Errors end the process that finds them, and the test with it. A target that is missed is marked in
// the table and fails nothing: it may be the machine.
package engine
