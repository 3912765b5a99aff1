// Package webpubsub is the protocol of Azure Web PubSub's clients: `json.webpubsub.azure.v1` and, with sequence ids and recovery,
// `json.reliable.webpubsub.azure.v1`. Microsoft's client SDKs speak it unmodified; what they call a hub is our namespace.
//
// # Purpose
//
// Pages and apps get groups, acks, events and recovery without an SDK of ours.
//
//	> {"type":"joinGroup","group":"g","ackId":1}       and leaveGroup
//	> {"type":"sendToGroup","group":"g","ackId":2,"noEcho":true,"dataType":"text","data":"hi","ttlSeconds":60,"metadata":{"k":"v"}}
//	> {"type":"event","event":"e","ackId":3,"dataType":"json","data":{}}
//	> {"type":"ping"}
//	> {"type":"sequenceAck","sequenceId":17}                                             (reliable)
//	< {"type":"system","event":"connected","userId":"u","connectionId":"c","reconnectionToken":"t"}    (token: reliable)
//	< {"sequenceId":1,"type":"message","from":"group","group":"g","fromUserId":"u","metadata":{},"dataType":"json","data":{}}
//	< {"sequenceId":2,"type":"message","from":"server","dataType":"binary","data":"AP8="}              (sequenceId: reliable)
//	< {"type":"ack","ackId":1,"success":false,"error":{"name":"Forbidden","message":".."}}
//	< {"type":"pong"}
//	< {"type":"system","event":"disconnected","message":".."}           (in front of a close of the hub's, but for 1002 and 1009)
//
// A message that was sent to a group is "from" it, any other "from" the server. fromUserId is there when a client with a user sent it.
// dataType is json unless said; json is passed on byte for byte. Members that are unknown, or null, count as missing.
//
// # What a client is told
//
// Only what can't be parsed ends the connection. A binary message ends it with 1003. One whose data has more
// bytes than edge.Config.MaxMessage ends it with 1009. The data is counted decoded, so base64 and escapes are not; a command as a whole may
// have six times as many bytes, and 64 KiB. Text ends it with 1007 if it
// is no valid JSON object, has a known member twice, has no string as its type, or an ackId that is no number; in a sequenceAck also if
// sequenceId is no number. A sequenceAck of what was never sent ends it with 1008.
//
// Each other command that carries an ackId gets exactly one ack. Errors in acks:
//
//	Duplicate            this ackId has succeeded before; nothing is done again
//	Forbidden            no permission, or no room for one more group
//	BadRequest           a member is missing, of the wrong type, or beyond its limit; a string escapes half of a surrogate pair
//	NotSupported         the hub does not know the command, or does not offer it
//	NoSubscriber         no backend gets the event: none subscribes to it at this hub, or their queues are full
//	InternalServerError  the hub is leaving
//
// Commands that the hub does not support are answered in the form that their clients wait for, with or without an ackId:
//
//	> {"type":"invoke","invocationId":"1",..}                           < invokeResponse, success false, NotSupported
//	> {"type":"sendToGroup","group":"g","stream":{"streamId":"s"}}      < streamClosed, NotSupported
//	> {"type":"streamData","streamId":"s",..}, and streamEnd            < streamClosed, StreamNotFound
//
// An id of more than 128 bytes is not repeated, so there is no answer. A command that is not carried out and has no way to be answered is only
// counted, as all that fail are: connhub_client_commands_rejected_total.
//
// Commands that failed are not remembered, so clients may try again with the same ackId.
// A client that takes its connection to a new link while a command is carried out is heard there when that has ended, so its commands stay
// in order. The answer went to the old link; to the same command again it is Duplicate if it has succeeded, otherwise it is carried out anew.
// Success of a sendToGroup says that this hub has taken the message; of a join, that it is in force at every hub; of an event, that a backend which
// subscribes to it at this hub has it queued, and gets it unless its stream breaks first.
//
// # Goroutines, locking, errors
//
// A protocol has no state: one value serves all connections. Receive may wait for as long as a join takes to be in force, 500 ms.
// A message is encoded once for each group, and once for all other routes.
package webpubsub
