// Package envelope is the subprotocol `json.connhub.v1`: each message is a JSON object in a text frame
// that shows, beside the payload, by which route it came and what the backend said about it.
//
//	{"type":"connected","connectionId":"..","user":"..","hub":".."}
//	{"type":"message","id":"..","route":"group","group":"g","event":"..","from":{"connectionId":"..","user":".."},
//	 "metadata":{"name":"value"},"traceparent":"..","dataType":"text","data":".."}
//
// # Purpose
//
// A page that wants to know what it is being told: its own connection id comes first (`connected`), then
// messages. `route` is connection, user, group or everyone; `group` is there only with route group. `event`,
// `from`, `metadata`, `traceparent` (W3C Trace Context, as the backend sent it) and `user` are left out when
// empty. `dataType` says what `data` is: a string (text), any
// JSON value, passed on byte for byte (json), or a string in base64 with padding, RFC 4648 §4 (binary).
// Clients ignore a `type` and members that they do not know, so that both may grow.
//
// # What clients send
//
// The hub counts it (connhub_client_messages_total) and passes it to nobody: events to backends come in
// a later version.
//
// # Goroutines, locking, errors
//
// The protocol has no state: one value serves all connections, and nothing in it can fail. A message is
// encoded once for each route, not for each connection.
package envelope
