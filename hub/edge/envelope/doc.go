// Package envelope is the subprotocol `json.connhub.v1`: each message is a JSON object in a text
// message, with the payload, the route of the message and the properties that the backend gave it.
//
//	{"type":"connected","connectionId":"..","user":"..","hub":".."}
//	{"type":"message","id":"..","route":"group","group":"g","event":"..",
//	 "from":{"connectionId":"..","user":".."},"metadata":{"name":"value"},
//	 "traceparent":"..","dataType":"text","data":".."}
//
// # Purpose
//
// A page sees the origin of each message, without a library. The first object is `connected`, with
// the connection id of the page. Then messages follow:
//
//   - `route` is connection, user, group or everyone. `group` is present only with the route group.
//   - `event`, `from`, `metadata`, `traceparent` (W3C Trace Context, as the backend sent it) and
//     `user` are left out if they are empty.
//   - `dataType` is the form of `data`: text for a string; json for a JSON value, passed on byte
//     for byte; binary for a string in base64 with padding (RFC 4648 §4).
//
// Clients must ignore unknown types and members: later versions may add some.
//
// # Messages from clients
//
// The hub counts them (connhub_client_messages_total) and drops them: events to backends come in a
// later version.
//
// # Goroutines, locking, errors
//
// Protocol has no state. A value is safe for concurrent use, serves all connections, and never
// fails. A message is encoded once for each route, not for each connection.
package envelope
