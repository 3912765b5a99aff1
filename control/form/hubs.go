package form

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/connhub/connhub/hub"
)

// HubNames returns the ids of hubs in order, each once, for an answer. It returns nil for no hub.
func HubNames(hubs []hub.ID) []string {
	if len(hubs) == 0 {
		return nil
	}
	names := make([]string, len(hubs))
	for i, id := range hubs {
		names[i] = string(id)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// StaleFor returns for how long discovery has not confirmed the list of hubs, for an answer; nil if
// the list is current.
func StaleFor(stale time.Duration) *durationpb.Duration {
	if stale <= 0 {
		return nil
	}
	return durationpb.New(stale)
}
