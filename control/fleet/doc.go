// Package fleet carries out the calls about the hubs themselves: it lists, drains and
// balances them. It asks peers for their room, when connections move to them.
//
//	service.go    HubService
//	drain.go      drains of this hub and of peers
//	rebalance.go  moves from full hubs to empty hubs
//	room.go       the room of a hub for connections, as it tells its peers
package fleet
