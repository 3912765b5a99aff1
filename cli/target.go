package cli

import (
	"github.com/connhub/connhub/cli/terminal"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// TargetFlags name connections. Names may hold commas, so each name is a flag of its own.
type TargetFlags struct {
	// Connection: ids of connections.
	Connection []string `short:"c" sep:"none" placeholder:"ID" group:"Target (repeatable)" help:"A connection."`
	// User: the connections of these users.
	User []string `short:"u" sep:"none" placeholder:"USER" group:"Target (repeatable)" help:"Every connection of a user."`
	// Group: the members of these groups.
	Group []string `short:"g" sep:"none" placeholder:"GROUP" group:"Target (repeatable)" help:"Every member of a group."`
	// Everyone: all of the namespace.
	Everyone bool `group:"Target (repeatable)" help:"Every connection of the namespace."`

	// ExceptConnection: not these connections.
	ExceptConnection []string `sep:"none" placeholder:"ID" group:"Target (repeatable)" help:"Except this connection."`
	// ExceptUser: not those of these users.
	ExceptUser []string `sep:"none" placeholder:"USER" group:"Target (repeatable)" help:"Except the connections of this user."`
	// ExceptGroup: not the members of these groups.
	ExceptGroup []string `sep:"none" placeholder:"GROUP" group:"Target (repeatable)" help:"Except the members of this group."`
}

// isEmpty reports whether the flags name no connection. Exceptions name none.
func (f *TargetFlags) isEmpty() bool {
	return !f.Everyone && len(f.Connection) == 0 && len(f.User) == 0 && len(f.Group) == 0
}

// parseTarget returns the target of the flags. Flags without a target are a mistake, and never mean
// everyone.
func (f *TargetFlags) parseTarget() (*controlv1.Target, error) {
	if f.isEmpty() {
		return nil,
			terminal.UsageErrorf("name a target: --connection ID, --user USER, --group GROUP or " +
				"--everyone")
	}
	t := &controlv1.Target{
		Connections: f.Connection, Users: f.User, Groups: f.Group,
		Everyone: f.Everyone,
	}
	if len(f.ExceptConnection)+len(f.ExceptUser)+len(f.ExceptGroup) > 0 {
		t.Except = &controlv1.Exclusion{
			Connections: f.ExceptConnection, Users: f.ExceptUser, Groups: f.ExceptGroup,
		}
	}
	return t, nil
}
