package main

import (
	"github.com/connhub/connhub/cli/terminal"

	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

// targetFlags name connections. Names may hold commas, so each name is a flag of its own.
type targetFlags struct {
	Connection []string `short:"c" sep:"none" placeholder:"ID" group:"Target (repeatable)" help:"A connection."`
	User       []string `short:"u" sep:"none" placeholder:"USER" group:"Target (repeatable)" help:"Every connection of a user."`
	Group      []string `short:"g" sep:"none" placeholder:"GROUP" group:"Target (repeatable)" help:"Every member of a group."`
	Everyone   bool     `group:"Target (repeatable)" help:"Every connection of the namespace."`

	ExceptConnection []string `sep:"none" placeholder:"ID" group:"Target (repeatable)" help:"Except this connection."`
	ExceptUser       []string `sep:"none" placeholder:"USER" group:"Target (repeatable)" help:"Except the connections of this user."`
	ExceptGroup      []string `sep:"none" placeholder:"GROUP" group:"Target (repeatable)" help:"Except the members of this group."`
}

// isEmpty reports whether the flags name no connection. Exceptions name none.
func (f *targetFlags) isEmpty() bool {
	return !f.Everyone && len(f.Connection) == 0 && len(f.User) == 0 && len(f.Group) == 0
}

// parseTarget returns the target of the flags. Flags without a target are a mistake, and never mean
// everyone.
func (f *targetFlags) parseTarget() (*controlv1.Target, error) {
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
