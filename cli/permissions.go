package cli

import (
	"context"
	"strings"

	"github.com/connhub/connhub/cli/dial"
	"github.com/connhub/connhub/cli/terminal"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

type permissionsCmd struct {
	Grant  permissionsGrantCmd  `cmd:"" help:"Grant permissions to clients."`
	Revoke permissionsRevokeCmd `cmd:"" help:"Revoke permissions of clients, also those of their tokens."`
	Check  permissionsCheckCmd  `cmd:"" help:"Count the clients with permissions: of all, or of a target."`
}

// permissionArgs are permissions as written on a command line.
type permissionArgs struct {
	Permissions []string `arg:"" name:"permission" sep:"none" help:"join-leave-group or send-to-group, for every group; with :GROUP for that one. The group is a name, not a pattern."`
}

// actionWords are the actions of the API on a command line.
var actionWords = map[string]controlv1.PermissionAction{
	"join-leave-group": controlv1.PermissionAction_PERMISSION_ACTION_JOIN_LEAVE_GROUP,
	"send-to-group":    controlv1.PermissionAction_PERMISSION_ACTION_SEND_TO_GROUP,
}

func (a *permissionArgs) parsePermissions() ([]*controlv1.Permission, error) {
	list := make([]*controlv1.Permission, len(a.Permissions))
	for i, arg := range a.Permissions {
		word, group, one := strings.Cut(arg, ":")
		action, ok := actionWords[word]
		// a variable that is empty by chance must not mean every group
		if !ok || one && group == "" {
			return nil,
				terminal.UsageErrorf("%q is no permission: want join-leave-group or "+
					"send-to-group, alone or with :GROUP", arg)
		}
		list[i] = &controlv1.Permission{Action: action, Group: group}
	}
	return list, nil
}

// targetAndPermissions returns the target and the permissions of a command line.
func (a *permissionArgs) targetAndPermissions(
	f *TargetFlags,
) (*controlv1.Target, []*controlv1.Permission, error) {
	target, err := f.parseTarget()
	if err != nil {
		return nil, nil, err
	}
	permissions, err := a.parsePermissions()
	return target, permissions, err
}

type permissionsGrantCmd struct {
	TargetFlags
	permissionArgs
	dial.Flags
}

func (c *permissionsGrantCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	target, permissions, err := c.targetAndPermissions(&c.TargetFlags)
	if err != nil {
		return err
	}
	return dial.AskAndShow(ctx, t, &c.Flags, func(
		ctx context.Context, hub *dial.Client,
	) (*controlv1.GrantPermissionsResponse, error) {
		return controlv1.NewAccessServiceClient(hub).GrantPermissions(ctx,
			&controlv1.GrantPermissionsRequest{
				Namespace: c.Namespace, Target: target, Permissions: permissions,
			})
	}, func(response *controlv1.GrantPermissionsResponse) {
		printPermitted(t, "granted", response)
	})
}

// permitted is the answer to a grant or a revocation.
type permitted interface {
	dial.Partial
	GetMatched() int32
	GetChanged() int32
	GetRefused() int32
	GetClosed() int32
	GetRefusals() []*controlv1.Refusal
}

func printPermitted(t *terminal.Terminal, word string, p permitted) {
	printOutcome(t, p.GetMatched(), tally{p.GetChanged(), word},
		tally{p.GetRefused(), "refused: limit of 1000 grants and revocations reached"},
		tally{p.GetClosed(), "closed meanwhile"})
	printRefusals(t, p.GetRefusals(), p.GetRefused()+p.GetClosed())
	dial.PrintGaps(t, p)
}

type permissionsRevokeCmd struct {
	TargetFlags
	permissionArgs
	dial.Flags
}

func (c *permissionsRevokeCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	target, permissions, err := c.targetAndPermissions(&c.TargetFlags)
	if err != nil {
		return err
	}
	return dial.AskAndShow(ctx, t, &c.Flags, func(
		ctx context.Context, hub *dial.Client,
	) (*controlv1.RevokePermissionsResponse, error) {
		return controlv1.NewAccessServiceClient(hub).RevokePermissions(ctx,
			&controlv1.RevokePermissionsRequest{
				Namespace: c.Namespace, Target: target, Permissions: permissions,
			})
	}, func(response *controlv1.RevokePermissionsResponse) {
		printPermitted(t, "revoked", response)
	})
}

type permissionsCheckCmd struct {
	TargetFlags
	permissionArgs
	dial.Flags
}

func (c *permissionsCheckCmd) Run(ctx context.Context, t *terminal.Terminal) error {
	if c.isEmpty() {
		c.Everyone = true // checking changes nothing
	}
	target, permissions, err := c.targetAndPermissions(&c.TargetFlags)
	if err != nil {
		return err
	}
	return dial.AskAndShow(ctx, t, &c.Flags, func(
		ctx context.Context, hub *dial.Client,
	) (*controlv1.CheckPermissionsResponse, error) {
		return controlv1.NewAccessServiceClient(hub).CheckPermissions(ctx,
			&controlv1.CheckPermissionsRequest{
				Namespace: c.Namespace, Target: target, Permissions: permissions,
			})
	}, func(response *controlv1.CheckPermissionsResponse) {
		printOutcome(t, response.GetMatched(), tally{response.GetAllowed(), "allowed"},
			tally{response.GetMatched() - response.GetAllowed(), "not allowed"})
		dial.PrintGaps(t, response)
	})
}
