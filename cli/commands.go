package cli

// Commands are the commands of operators. Package kong fills them in and runs them: each has a
// method Run with the context and the terminal of the command.
type Commands struct {
	// Send: a message to a target.
	Send sendCmd `cmd:"" group:"Talk to a hub" help:"Send a message to connections, users, groups or everyone."`
	// Connections: list, get, close.
	Connections connectionsCmd `cmd:"" group:"Talk to a hub" help:"List, show and close connections."`
	// Groups: list, get, add, remove.
	Groups groupsCmd `cmd:"" group:"Talk to a hub" help:"List and show groups, add and remove members."`
	// Permissions: grant, revoke, check.
	Permissions permissionsCmd `cmd:"" group:"Talk to a hub" help:"Grant, revoke and check what clients may do with groups."`
	// Events: tail.
	Events eventsCmd `cmd:"" group:"Talk to a hub" help:"Watch what clients do."`
	// Hubs: list, drain.
	Hubs hubsCmd `cmd:"" group:"Talk to a hub" help:"List the hubs, and drain a hub."`
	// Token: a URL for a client.
	Token tokenCmd `cmd:"" group:"Talk to a hub" help:"Make a signed URL with which a client connects."`
}
