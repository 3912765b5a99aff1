package core

import (
	"slices"

	"github.com/connhub/connhub/hub"
)

// QueryOf returns the query for a target. It ignores the exclusions, which can only reduce the
// matches. memory is an empty slice for the hashes, whose room spares an allocation; nil: none.
func QueryOf(memory []Hash, namespace string, t *hub.Target) Query {
	q := Query{Hashes: memory}
	if t.Everyone {
		q.Hashes = append(q.Hashes, HashOf(KindNamespace, namespace, ""))
	}
	for _, user := range t.Users {
		q.Hashes = append(q.Hashes, HashOf(KindUser, namespace, user))
	}
	for _, group := range t.Groups {
		q.Hashes = append(q.Hashes, HashOf(KindGroup, namespace, group))
	}
	for _, connection := range t.Connections {
		_, born, err := hub.ParseConnectionID(connection)
		if err != nil {
			continue // no connection has that name
		}
		q.Hashes = append(q.Hashes, HashOf(KindConnection, namespace, connection))
		q.Hubs = append(q.Hubs, born)
	}
	slices.Sort(q.Hubs) // there may be ten thousand
	q.Hubs = slices.Compact(q.Hubs)
	return q
}
