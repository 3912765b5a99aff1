package mesh

import (
	"github.com/cespare/xxhash/v2"
)

// Kind is what a Hash stands for. The values are part of the protocol (peer.proto, message Interest).
type Kind byte

const (
	// KindUser: the connections of a user.
	KindUser Kind = iota + 1
	// KindGroup: the members of a group.
	KindGroup
	// KindConnection: one connection that is held elsewhere than where it was born.
	KindConnection
	// KindNamespace: every connection of a namespace; its name is empty.
	KindNamespace
)

// hashSeed is "connhub1" in ASCII. It is the same in every hub for ever: a hub with another one would be left
// out of every send.
const hashSeed = 0x636f6e6e68756231

// Hash is what hubs call a user, a group, a connection or a namespace when they tell each other what they have.
// Two names may have the same; see interest.
type Hash uint64

// HashOf returns the hash of a name in a namespace of at most 128 bytes. The layout of the hashed bytes is that of
// peer.proto, message Interest, test vectors included.
func HashOf(kind Kind, namespace, name string) Hash {
	var d xxhash.Digest
	d.ResetWithSeed(hashSeed)
	_, _ = d.Write([]byte{byte(kind), byte(len(namespace))}) // a Digest takes everything
	_, _ = d.WriteString(namespace)
	_, _ = d.WriteString(name)
	return Hash(d.Sum64())
}

// LaneOf returns the lane, below lanes, on which the calls of a caller go to each peer. It knows nothing of the target:
// what one caller sends to one connection stays in order, by whatever name the connection is meant.
func LaneOf(caller string, lanes int) int {
	return int(xxhash.Sum64String(caller) % uint64(lanes))
}
