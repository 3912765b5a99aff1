package events

import (
	"slices"

	"github.com/connhub/connhub/hub"
)

// Filter selects events. It must not change after Subscribe.
type Filter struct {
	// Namespaces are those of the connections. None: hub.DefaultNamespace alone.
	Namespaces []string
	// Kinds are the kinds of events. None: all.
	Kinds []Kind
	// MessageNames are the names of messages; events of another kind pass. None: all.
	MessageNames []string
}

// withDefaults returns f with the namespace that a filter without namespaces selects.
func (f Filter) withDefaults() Filter {
	if len(f.Namespaces) == 0 {
		f.Namespaces = []string{hub.DefaultNamespace}
	}
	return f
}

// selectsEvent reports whether f selects an event of a namespace. message is nil for other kinds
// than KindMessage.
func (f *Filter) selectsEvent(namespace string, kind Kind, message *hub.ClientEvent) bool {
	hasName := message == nil || len(f.MessageNames) == 0 ||
		slices.Contains(f.MessageNames, message.Name)
	return hasName && slices.Contains(f.Namespaces, namespace) &&
		(len(f.Kinds) == 0 || slices.Contains(f.Kinds, kind))
}
