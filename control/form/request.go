package form

import (
	"github.com/connhub/connhub/hub"
)

// MaxRequestBytes bounds a request message. The largest request within all limits has a
// payload; a target, with up to 4 bytes of tag and length beside each name; metadata, with up
// to 15 bytes beside each pair, of at least a byte; a list of groups; and some single names.
// The bound is twice that, so that the answer to a request over a limit can name the field.
// Beyond it gRPC reads no further and answers RESOURCE_EXHAUSTED.
const MaxRequestBytes = 2 * (hub.MaxPayload +
	maxTargetBytes + 4*MaxTargetNames +
	16*MaxMetadataBytes +
	hub.MaxGroups*(hub.MaxName+4) +
	16*hub.MaxName)

// NamespaceOf returns the namespace of a request: hub.DefaultNamespace if it names none.
func NamespaceOf(req interface{ GetNamespace() string }) string {
	if n := req.GetNamespace(); n != "" {
		return n
	}
	return hub.DefaultNamespace
}
