// Package webpubsub implements the subprotocols of Azure Web PubSub's clients:
// `json.webpubsub.azure.v1`, and `json.reliable.webpubsub.azure.v1` with sequence ids and recovery.
// Microsoft's client SDKs work with it unmodified. Their hub is our namespace.
//
// # Purpose
//
// Web pages and apps use groups, acks, events and recovery without an SDK of ours. "reliable" marks
// parts of the second subprotocol only.
//
//		> {"type":"joinGroup","group":"g","ackId":1}                        and leaveGroup
//		> {"type":"sendToGroup","group":"g","ackId":2,"noEcho":true,
//		   "dataType":"text","data":"hi","ttlSeconds":60,"metadata":{"k":"v"}}
//		> {"type":"event","event":"e","ackId":3,"dataType":"json","data":{}}
//		> {"type":"ping"}
//		> {"type":"sequenceAck","sequenceId":17}                            reliable
//		< {"type":"system","event":"connected","userId":"u","connectionId":"c",
//		   "reconnectionToken":"t"}                                         token: reliable
//		< {"sequenceId":1,"type":"message","from":"group","group":"g",
//		   "fromUserId":"u","metadata":{},"dataType":"json","data":{}}      sequenceId: reliable
//		< {"type":"message","from":"server","dataType":"binary","data":"AP8="}
//		< {"type":"ack","ackId":1,"success":false,
//		   "error":{"name":"Forbidden","message":".."}}
//		< {"type":"pong"}
//		< {"type":"system","event":"disconnected","message":".."}
//
//	  - A message to a group is "from" the group, any further message "from" the server.
//	  - fromUserId is present if a client with a user sent the message.
//	  - dataType is json by default. JSON data is passed on byte for byte.
//	  - An unknown member counts as missing, and so does a member with the value null.
//	  - The disconnected message precedes a close by the hub, except with the codes 1002 and 1009.
//
// # Messages that end the connection
//
// Only a message that can't be parsed as a command ends the connection:
//
//   - 1003: the message is binary.
//   - 1009: the data has more bytes than edge.Config.MaxMessage. They are counted after decoding,
//     without base64 and escapes. A whole command may have six times as many bytes, and 64 KiB
//     more.
//   - 1007: the text is no valid JSON object, has a known member twice, has a type that is no
//     string, or has an ackId that is no number. In a sequenceAck: sequenceId is no number.
//   - 1008: a sequenceAck confirms an id that was never sent.
//
// # Acks
//
// Any further command with an ackId gets exactly one ack. Its error has a name:
//
//	Duplicate            a command with this ackId has succeeded before; it is not executed again
//	Forbidden            no permission, or the limit of groups is reached
//	BadRequest           a member is missing, of a wrong type, or beyond its limit; or a string
//	                     escapes half of a surrogate pair
//	NotSupported         the hub does not know or does not support the command
//	NoSubscriber         no backend subscribes to the event at this hub, or their
//	                     queues are full
//	InternalServerError  the hub is shutting down
//
// Success means:
//
//   - of a sendToGroup: this hub has accepted the message;
//   - of a joinGroup: the join is in force at all hubs;
//   - of an event: it is queued for a backend that subscribes to it at this hub. The backend gets
//     the event unless its stream breaks first.
//
// An answer to an unsupported command has the form that its clients wait for, with or without an
// ackId:
//
//	> {"type":"invoke","invocationId":"1",..}                    < invokeResponse, NotSupported
//	> {"type":"sendToGroup","group":"g","stream":{"streamId":"s"}}
//	                                                           < streamClosed, NotSupported
//	> {"type":"streamData","streamId":"s",..}, and streamEnd     < streamClosed, StreamNotFound
//
// There is no such answer if the id has more than 128 bytes. All commands that fail, with or
// without an answer, are counted: connhub_client_commands_rejected_total.
//
// Failed commands are not remembered, so a client may repeat them with the same ackId.
//
// A client may move its connection to a new link while a command is executed. The hub reads from
// the new link when that command has ended, so the commands stay in order. The ack went to the old
// link. If the client repeats the command, it gets Duplicate if the command has succeeded;
// otherwise the command is executed again.
//
// # Goroutines, locking, errors
//
// The protocols have no state: a single value serves all connections. Receive may block until a
// join is in force, for up to 500 ms. A message is encoded once for each group that it is sent to,
// and once for all further routes.
package webpubsub
