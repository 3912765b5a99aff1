// Package edge is the hub's side towards clients: it lets them in and carries their connections over
// WebSockets (RFC 6455).
//
// # Purpose
//
// A client asks for /client/hubs/{namespace}, or /ws for the default namespace, and upgrades. The package
// decides whether it may (origin, token), which Protocol it speaks, registers it with the hub, and is from
// then on the hub.Link between the hub's outbox and the client. coder/websocket does the protocol towards
// the client: the handshake, reading frames, answering pings and closes. Data frames do not pass through it:
// the hub's protocols make them, once for all clients, and the link writes them to the socket beside it.
//
// # Life of a connection
//
//	accept      bounded in number; TLS handshakes wait for a core     lobby, line.go
//	route       which endpoint; Host                                 server.go, origin.go
//	connect     origin, token, protocol, Hub.Attach, 101             handshake.go, admission.go
//	begin       Bind                                                 reader.go
//	  advance   read loop, as long as there is something             reader.go, wire.go
//	            on a socket that is parked meanwhile, or not         socket.go: parked_linux.go, blocking.go
//	  end       Unbind, the socket's end                             reader.go
//	  Flush     outbox → socket, at once or as it takes more         link.go, output.go
//	  Close     close frame, wait for the client's, socket           link.go
//	heartbeat   ping silent clients, close dead ones                 heartbeat.go
//
// A request that is refused is answered with a problem document (RFC 9457, problem.go) before anything is
// registered. A connection is registered before the 101 is written: what is sent to it in the moment of
// the page's `onopen` waits in its outbox and is written after the 101.
//
// Each link ends for exactly one reason (cause.CloseStatus): the close that the hub asked for; the
// client's close frame; what coder/websocket or the Protocol found wrong; silence; or a socket that
// is simply gone. Whoever is first wins. reader.go decides, tells the client if it is still there to read, and tells the hub.
//
// # Goroutines
//
// Under TLS one that accepts, and one for each TLS handshake. net/http's for the handshake, which ends with the 101. Then, for a link that is parked: one while it reads, which it does
// until nothing is there and no message of several or large frames has begun; one while it writes what the socket did not take at once;
// none while it is silent. One poller waits for all of them. TLS of a parked link reads and
// writes in memory (sealed.go). For a link that is blocking (where there is no epoll, with Config.GoroutinePerLink): one that reads, and a second one, its writer, only while there is something to write that its socket
// does not take at once; under TLS, for which that can't be told, while there is anything to write. One heartbeat for all, while
// there are links. Server.Shutdown waits for all of them.
//
// # Deadlines
//
// A process that was stopped, or starved, finds deadlines over that its clients have kept. So each verdict comes after a
// look into the socket.
//
//   - Ping: unread input, or room in a socket that was full, is a sign of life (heartbeat.go).
//   - Message, handshake: what has arrived is read, and the client has 2 s more, once (parked_linux.go, tcpconn.go).
//   - Close: a client that has shown life has up to 2 s more, once (link.go).
//   - Ack: the hub asks the link by hub.Link.Stirs.
//
// # Locking
//
// A link's mu is held around writes that can't block, and never around others. Order: heartbeat.mu, link.mu,
// then poller.mu or the hub's own: a link calls Connection.Take and Written under mu, and the hub calls links without any
// lock of its own. Server.mu is held alone. budget.mu is taken without any other; under it readers are woken, which takes none of these.
//
// # Compression
//
// With Config.Compression, for a client that offers it: permessage-deflate without context takeover (RFC 7692). compression.go
// wraps the protocol; to the hub it is another one, so a message is compressed once for all who agreed to it. What
// clients send is unpacked by coder/websocket, MaxMessage counts it unpacked. A client that uses context takeover all the same is closed, with
// that reason (1002).
//
// # Backpressure
//
// A link takes from its connection's outbox what the socket has room for, 64 KiB at a time, so messages wait
// in the outbox, where the hub's overflow policies see them. Control frames wait in the link, 1 KiB at most,
// and as many bytes of what TLS has to say by itself: a client that lets more wait is closed (1013).
// What clients send is read one message at a time, up to MaxMessage, within MessageTimeout. Of small messages that are not whole, up
// to 4 KiB a link wait without a goroutine; what large ones need, the goroutines that wait for them included, comes out of InboundBytes, whose
// largest holder pays when it is full (budget.go).
//
// Config.MaxLinks and Config.MaxStrangers bound the sockets. A client above the first is refused; above the second a connection
// that keeps the hub waiting is dropped, or one in line for a TLS handshake of an address that has many, or the hub accepts no more until there is room (package lobby).
//
// # Errors
//
// Clients get close codes (cause.Cause) or problem documents; both come from one table. Faults of
// the hub are logged at Error here and end one link (1011). What clients do wrong is counted, and
// logged at Debug. Query strings are never logged: they carry tokens.
package edge
