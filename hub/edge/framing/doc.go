// Package framing joins protocols with the bytes of a link: of a WebSocket (RFC 6455), without and
// with compression (RFC 7692, permessage-deflate).
//
// # Purpose
//
// A protocol (package protocol) yields messages. A link carries bytes. A framing makes the
// hub.Protocol between them, and the hub sees one hub.Protocol for each pair of a protocol and a
// framing. So it encodes a message once for each such pair and route, and all connections with the
// pair share the bytes.
//
//	Encode         protocol.AppendMessage, then the frame around it    once for each route
//	AppendPrefix   frame header, protocol.Numbering                    for each connection
//	AppendGreeting, AppendReply, AppendGoodbye                         whole messages
//
// The shared bytes of a numbered message are not copied or encoded again. The prefix of each
// connection goes in front of them, and the header in it tells the length of both.
//
// # Messages of clients
//
// An Inflater reads the compressed messages of clients, wherever their deflate has final blocks.
//
// # A further framing
//
// It is a function from protocol.Protocol to Framed. Its types embed Base, which does the greeting,
// the replies and the goodbye, and add Encode; for a protocol.Numbered they add AppendPrefix too.
// The links of a new kind then carry each protocol that exists. The link tests of package edge have
// such a framing, lines of text.
//
// # Goroutines, locking, errors
//
// A Framed has no state. It is safe for concurrent use and never fails. A single goroutine uses an
// Inflater.
package framing
