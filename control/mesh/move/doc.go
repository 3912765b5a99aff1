// Package move decides how a connection moves from a hub to another, while all hubs go on to send
// to it. It performs nothing. It has no goroutine, no clock, no lock and no I/O: messages, ends of
// links and the time come in as method calls, and effects go out. The effects on connections are
// the methods of hub.Moves. The shell decides nothing.
//
// # Problem
//
// A client comes back to a different hub (take), or its hub leaves (drain). The connection must
// then have a single owner at any time. Calls for it are on their way meanwhile, from every hub:
// sends, joins, leaves, grants, closes. None may be lost, none may count twice, and those of a
// caller must stay in order, although links end for either side first and hubs die.
//
// # Outline
//
// C is the old hub and D the new hub. X is an origin: a hub where calls begin. C and D are origins,
// too. X sends each call to all hubs that may have matching connections, so C and D both get it.
// X's mark decides which of the two carries it out for the connection.
//
//  1. C freezes the connection, and sends the snapshot (Offer). D has a shadow (Shadowed), and
//     announces the move to each X (Announce).
//  2. X marks each of its lanes, to C and to D, at the same point of the lane's order (Mark). C
//     carries out calls before the mark, and passes them on as changes (Changes). C and D both hold
//     calls behind the mark.
//  3. When C has all marks, or after MarkTime, it seals the connection, and sends the last changes
//     with the list of marks (Last). D commits and answers (Adopted). C lets go (Released).
//  4. D delivers the calls that it holds. From an X whose mark has not come to D, D leaves calls
//     out until it comes. Then X may forget the move (Done). When no mark is missing, C may forget
//     it (Adopted.Complete), and then D (Over).
//
// An X whose mark C had not in time is cut. C answers its later calls with the move (Result.Moved).
// D asks it (Settle) to send the calls from before its mark again, those that C has answered so
// (Resend, Settled). D holds X's calls behind the mark until then, so the order stays.
//
// A move that fails before the seal ends at C: Abort, or Never. C then carries out the calls that
// it has held, so nothing is lost with D.
//
//	message.go    the messages of hubs, with the stream of each
//	effect.go     the orders to the shell
//	core.go       the Core: links, deaths, time
//	links.go      the links, and the effects of the running call
//	departure.go  the move at the old hub
//	arrival.go    the move at the new hub
//	origin.go     calls and marks at the hub where calls begin
//	held.go       calls at the hubs that carry them out
//	take.go       clients that come to a hub, and the hubs that they are sent to
//	rest.go       how long a connection stays between two takes
//
// # Invariants
//
//   - A connection has at most one owner. After the seal C never owns it again, unless D says
//     Never. D says Never only if it has no shadow, and then it never commits that move. If D dies
//     first, the connection is closed: D may have given sequence ids to messages. If D does not
//     answer for Config.DoubtTime, C lets go, and never owns it again: it is D's, or lost.
//   - D decides in HandleApplied, and nowhere else. It can say Adopted until C has heard it (Over),
//     also if the connection has ended or moved on since.
//   - C carries a call out exactly if it has come before X's mark, and before the seal. D carries a
//     call out exactly if it is behind X's mark, or X has sent it again.
//   - A link to D that begins after the commit needs no mark: no call on it can come before the
//     seal at C. Each earlier link gets the announcement. A link of X to C or D that begins after
//     X's mark begins with the mark.
//   - Calls behind a mark go to C and to D, until X may forget the move. Then X has D's interest.
//   - X sends a call again only on the link to D that it had when the call began. If that link has
//     ended, the call's outcome is unknown anyway (Finish.Unknown), so nothing can come late.
//   - The higher epoch wins. An Offer of a connection that is in doubt here proves that it has
//     moved.
//   - A connection moves on from D only when D needs no more marks of the move to D.
//   - A hub that was sent a call answers it when its part is done, or given up. So reads follow
//     writes: a join that has returned is in the state that D commits, or comes before each call
//     that begins later.
//
// # Life of a take
//
// The client's hub asks the hub that the tombstone, the interest, or the connection's id names
// (Take). The holder moves the connection there, or names the hub that has it (Elsewhere). While a
// move is under way, the latest taker waits; a taker before it is refused. A taker whose client's
// proof is wrong is refused at once, and takes no turn. After the seal C can't tell for sure: D may
// have given the client a new token. Then a proof that looks wrong puts no taker aside. No taker
// waits for a connection in doubt while C has no link to D: that may last. The client's hub waits
// for TakeTime. Refuse is final if the holder says so; else the client asks again. If the holder
// names a dead hub, the connection may have moved on from there: the other peers are asked in turn
// first. A connection that has moved for a client stays for RestTime: a later taker waits for that.
//
// # Bounds
//
// A hub holds at most MaxHeld calls and MaxHeldBytes bytes for a connection, and MaxBytes bytes for
// all connections. With more, a move that can fail yet fails. C in doubt drops the call and answers
// it with the move, and the connection can't return to C. D ends the link that delays the origin's
// calls. Few connections should move at once: each holds its own list of calls.
//
// # Duties of the shell
//
//   - It begins no call on a lane while it sends the effects of a call of the core. So the marks
//     are at one point of each lane, for the link to C and the link to D alike.
//   - On Adopt and Apply it adds the shadow's users and groups to this hub's interest, before it
//     announces or answers. A join that C passes on is in force when it is at C and at D. C keeps
//     its own interest until it lets go.
//   - It reports the end of an accepted link after the last request of it, and before it accepts
//     the next link. What a link has carried is lost to the core after that.
//   - It reports results of Collect, Seal, Adopt, Apply and Release before any other input, and
//     keeps the ends of links that Fence and HangUp cause for later.
//   - Messages beside the lanes are in order, and so are those of a lane. Nothing else is.
//   - A tombstone answers calls to the connection's id for longer than the core does.
//
// # Errors
//
// An effect that fails ends the move (Core.HandleFailure). Messages that fit no move are of moves
// that are over, and count for nothing.
package move
