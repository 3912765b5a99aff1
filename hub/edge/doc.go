// Package edge is the hub's side towards clients: it admits them and carries their connections over
// WebSockets (RFC 6455).
//
// # Purpose
//
// A client asks for /client/hubs/{namespace}, or /ws for the default namespace, and upgrades. The
// package checks its origin and token, chooses its Protocol, and registers a connection with the
// hub. From then on the package is the hub.Link between the hub's outbox and the client.
// coder/websocket does the protocol towards the client: reading frames, answering pings and closes.
// A link has it only while a goroutine reads (reader.go). Data frames for clients do not pass
// through it. A Protocol yields messages, package framing frames them once for all clients, and the
// link writes the frames to the socket itself.
//
// # Life of a connection
//
//	accept      bounded in number; TLS handshakes wait for a core    lobby, greeter.go, line.go
//	read        the first request; net/http serves all but upgrades  package opening
//	route       which endpoint; Host                                 server.go, origin.go
//	connect     origin, token, protocol, Hub.Attach, 101             handshake.go, admission.go
//	  wait      above the connect rate, for a turn                   connectrate.go, package admit
//	  take      a client comes back, and a different hub has its     taker.go, package take
//	            connection
//	start       Bind                                                 reader.go
//	  serve     read loop while there is input                       reader.go, wire.go, input.go,
//	            with a reader that links share                       readerpool.go
//	            on a parked or a blocking socket                     package netpoll
//	  release   Unbind, the socket's end                             reader.go
//	  Flush     outbox → socket, at once or as it takes more         link.go, output.go
//	  Close     close frame, wait for the client's, socket           ending.go
//	heartbeat   ping silent clients, close dead links                heartbeat.go, package wheel
//
// A refused request is answered with a problem document (RFC 9457, problem.go) before anything is
// registered. A connection is registered before the 101 is written. So a message that is sent at
// the moment of the page's `onopen` waits in the outbox and is written after the 101.
//
// Each link ends for exactly a single reason (cause.CloseStatus):
//
//   - the close that the hub asked for
//   - the client's close frame
//   - a fault of the client, found by coder/websocket or the Protocol
//   - silence
//   - a socket that is gone
//
// The first of them wins. ending.go decides it, tells the client if the client can still read, and
// tells the hub.
//
// # Goroutines
//
//   - A goroutine that accepts, and a goroutine for each connection until the request is answered,
//     or is handed to net/http. An opening.Crew uses these goroutines again.
//   - Any request but a plain upgrade: net/http's goroutine.
//   - Parked link: a goroutine while it reads. It reads until there is no input and no message of
//     several or large frames has begun. Another goroutine writes bytes that the socket did not
//     take at once. A silent link has none: a single poller waits for all of them. TLS of a parked
//     link reads and writes in memory.
//   - Blocking link (no epoll, or Config.GoroutinePerLink): a goroutine that reads. A second
//     goroutine, its writer, runs while there are bytes that the socket does not take at once.
//     Under TLS the link can't tell, so the writer runs while there are any bytes to write.
//   - A wheel that checks all links, while there are links.
//
// Server.Shutdown waits for all of them.
//
// # Deadlines
//
// A hub that was stopped or starved finds deadlines expired that its clients have kept. So the hub
// looks into the socket before each verdict.
//
//   - Ping: unread input, or room in a socket that was full, is a sign of life (heartbeat.go).
//   - Message, handshake: the hub reads all arrived bytes, and the client has 2 s more, once
//     (package netpoll).
//   - Answer: the hub writes the bytes for which there is room, and the client has 2 s more, once
//     (package netpoll).
//   - Close: a client that has shown life has up to 2 s more, once (ending.go).
//   - Ack: the hub asks the link by hub.Link.Stirs.
//
// # Locking
//
// A link's lock is that of its netpoll.Socket. It is held during writes that can't block, and never
// during writes that can. Order: the wheel's, the link's, then netpoll's or the hub's own. A link
// calls Connection.Take and Written under its lock, and the hub holds no lock when it calls a link.
// Server.mu is held alone. Package budget's is taken without any further lock. Readers are woken
// under it, which takes none of these.
//
// # Compression
//
// With Config.Compression the hub agrees to permessage-deflate without context takeover (RFC 7692),
// if the client offers it. The framing is then framing.Deflate, also after moves of the connection
// (Server.ProtocolNamed). The hub sees a separate protocol, so a message is compressed once for all
// clients that agreed. A framing.Inflater inflates the messages of clients, and MaxMessage counts
// inflated bytes. A client that uses context takeover anyway is closed with that reason (1002).
//
// # Backpressure
//
// A link takes from its connection's outbox as many bytes as the socket has room for, 64 KiB at a
// time. So messages wait in the outbox, where the hub's overflow policies see them. At most 1 KiB
// of control frames waits in the link, and as many bytes of TLS's own records. A client that lets
// more of TLS's records wait is closed (1013).
//
// The messages of a client are read in turn, up to MaxMessage, within MessageTimeout. Up to 4 KiB
// of an incomplete small message wait without a goroutine. Large messages, and the goroutines that
// wait for them, draw on InboundBytes. When it is full, the largest holder pays (package budget).
//
// Config.ConnectRate bounds the clients that connect per second. Clients above it are held, resumes
// first, and then refused (package admit).
//
// Clients that wait for a connection of a different hub are bounded, and each has a socket among
// the links (package take).
//
// Config.MaxLinks and Config.MaxStrangers bound the sockets. Above MaxLinks a client is refused.
// Above MaxStrangers the hub drops a connection that keeps it waiting, or a connection in line for
// a TLS handshake of an address that has many. Otherwise it stops accepting until there is room
// (package lobby).
//
// # Errors
//
// Clients get close codes (cause.Cause) or problem documents; each comes from a single table. A
// fault of the hub is logged at Error here and ends a single link (1011). A fault of a client is
// counted, and logged at Debug. Query strings are never logged: they carry tokens.
package edge
