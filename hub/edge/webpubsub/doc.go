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
// What is not a message of the protocol ends its connection: a binary message with 1003, one that is too large with 1009, and with
// 1007 text that is not valid JSON, not an object, of no known type, without a member that it must have, with one of
// the wrong type, out of its range, or there twice. Confirming what was never sent ends it with 1008.
//
// All else is answered, if there is an ackId, with exactly one ack. Errors: Duplicate (this ackId has succeeded before; nothing
// is done again), Forbidden (no permission, or no room for one more group), BadRequest (a name, ttlSeconds or metadata beyond the limits),
// InternalServerError (the hub is leaving). Commands that failed are not remembered, so clients may try again with the same ackId.
// A client that takes its connection to a new link while a command is carried out is heard there when that has ended, so its commands stay
// in order. The answer went to the old link; to the same command again it is Duplicate if it has succeeded, otherwise it is carried out anew.
// Success of a sendToGroup says that this hub has taken the message; of a join, that it is in force at every hub.
//
// # Goroutines, locking, errors
//
// A protocol has no state: one value serves all connections. Receive may wait for as long as a join takes to be in force, 500 ms.
// A message is encoded once for each group, and once for all other routes.
package webpubsub
