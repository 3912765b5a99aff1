// Package admit limits the rate at which a hub admits clients.
//
// # Purpose
//
// When a hub restarts, its clients come back at once, to it or to its peers. Each of them costs a
// hub a handshake, and often the same work at its peers and backends. So a hub admits clients at
// Config.Rate. Clients above the rate are held for a short time, because most crowds are over soon.
// Clients that can't be held are refused, and told when to come back.
//
// # Life of a handshake
//
//	Admit        a token of the rate is there, and the handshake goes on at once
//	  hold       no token is there: the handshake waits in the queue, at most MaxHold
//	    admit    its turn has come
//	    refuse   ErrQueueFull, ErrHeldTooLong, ErrClosed: the caller answers the client
//	    leave    the client or the lobby has ended the connection: its place is free at once
//	RetryAfter   when a client that was refused for the rate should come back
//	Jitter       the same, for a different reason
//
// The caller authenticates a client before it calls Admit:
//
//   - A client with a bad token takes neither a token of the rate nor a place. It costs the hub the
//     check of the token, which is less than the TLS handshake before it. Those are done for
//     addresses in turn.
//   - Only a client that has proven its right to a connection is of class Resume. A made-up resume
//     never gets ahead of a new client. The caller gives that class to a single handshake of a
//     connection at a time. So a client can't fill the class with its own right.
//
// # The order
//
// Clients that resume go before new clients: they have messages waiting, and their window ends. In
// each class the first to come is the first to be admitted. While both classes wait, each eighth
// turn is that of a new client, and an eighth of the places is kept from resumes. So clients that
// resume again and again can't keep new clients out.
//
// The queue has places for the clients that the hub can admit within MaxHold, and no more than
// Config.Most. If it is full, a client that resumes takes the place of the newest new client.
//
// # The line of refused clients
//
// The queue remembers when the last refused client should come back. The next refused client should
// come back 1/Rate later. So a refused crowd comes back at the rate, behind the queue. A client may
// come earlier by up to the length of the queue, at random, because it can be held. When the line
// is longer than maxRetry it begins anew. Clients that have proven nothing have no place in it.
//
// # Goroutines
//
// None of its own. A held handshake waits on the goroutine of its caller. A timer, which runs only
// while handshakes are held, gives them their turns.
//
// # Locking
//
// Queue.mu is held alone.
//
// # Backpressure
//
// The queue is bounded. A held handshake is a stranger in line (package lobby), so the lobby may
// drop it for a newcomer of a different address. The rest of the lobby is for strangers whose
// request has not been read.
//
// # Errors
//
// Admit returns ErrQueueFull, ErrHeldTooLong, ErrClosed, or an error that says that the client has
// gone.
package admit
