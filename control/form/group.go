package form

import (
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
)

// NewGroup translates a group.
func NewGroup(info hub.GroupInfo) *controlv1.Group {
	return &controlv1.Group{Name: info.Name, Members: ClampCount(info.Members)}
}
