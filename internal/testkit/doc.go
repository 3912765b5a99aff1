// Package testkit holds code that the tests of several packages share. Only tests import it, and it
// imports no package of this module.
//
// A test waits for two kinds of events:
//
//   - An event that must come, without a promised time. Use a [Patience]: it waits longer on a busy
//     machine, in proportion to the pauses that it measures.
//   - An event with a promised time. Use a [Meter]: it extends the promise by the pauses that it
//     measures. On a quiet machine the promise is unchanged.
//
// A pause is the time by which a goroutine of this process is woken later than it asked for. A wait
// inside a testing/synctest bubble needs neither type: its clock stands still while a goroutine
// works.
package testkit
