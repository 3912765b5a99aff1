package form

import (
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub/permission"
)

var actions = map[controlv1.PermissionAction]permission.Action{
	controlv1.PermissionAction_PERMISSION_ACTION_JOIN_LEAVE_GROUP: permission.JoinGroup,
	controlv1.PermissionAction_PERMISSION_ACTION_SEND_TO_GROUP:    permission.SendToGroup,
}

// NewPermissions translates checked permissions.
func NewPermissions(all []*controlv1.Permission) []permission.Permission {
	list := make([]permission.Permission, len(all))
	for i, p := range all {
		list[i] = permission.Permission{Action: actions[p.GetAction()], Group: p.GetGroup()}
	}
	return list
}
