package core

import (
	"github.com/cespare/xxhash/v2"

	"github.com/connhub/connhub/hub"
)

// Kind says which kind of name a Hash stands for. The values are part of the protocol (peer.proto,
// message Interest).
type Kind byte

const (
	// KindUser: the connections of a user.
	KindUser Kind = iota + 1
	// KindGroup: the members of a group.
	KindGroup
	// KindConnection: a connection that lives at a hub that is not its birthplace.
	KindConnection
	// KindNamespace: every connection of a namespace; its name is empty.
	KindNamespace
)

// hashSeed is "connhub1" in ASCII. It must never change: all sends would pass over a hub with a
// different seed.
const hashSeed = 0x636f6e6e68756231

// Hash stands for a user, a group, a connection or a namespace when hubs tell each other their
// interest. Two names may have the same hash; see interest.
type Hash uint64

// HashOf returns the hash of a name in a namespace of at most 128 bytes. peer.proto, message
// Interest, defines the hashed bytes and has test vectors.
func HashOf(kind Kind, namespace, name string) Hash {
	var d xxhash.Digest
	d.ResetWithSeed(hashSeed)
	_, _ = d.Write([]byte{byte(kind), byte(len(namespace))}) // a Digest accepts all input
	_, _ = d.WriteString(namespace)
	_, _ = d.WriteString(name)
	return Hash(d.Sum64())
}

// LaneOf returns the lane, below lanes, on which the calls of a caller go to each peer. The lane
// does not depend on the target. So a caller's sends to a connection stay in order, even if they
// address the connection by different names.
func LaneOf(caller string, lanes int) int {
	return int(xxhash.Sum64String(caller) % uint64(lanes))
}

var kindsOfKeys = map[hub.RouteKind]Kind{
	hub.RouteUser: KindUser, hub.RouteGroup: KindGroup, hub.RouteEveryone: KindNamespace,
	hub.RouteConnection: KindConnection,
}

// HashOfKey returns the hash of a key of the hub.
func HashOfKey(k hub.Key) Hash { return HashOf(kindsOfKeys[k.Kind], k.Namespace, k.Name) }
