// Package testkit has what the tests of several packages share. Only tests import it, and it imports nothing of ours.
//
// A test waits for two kinds of things. What must come, and of which nothing says when, has a [Patience]: the wait
// grows with the pauses that it measures, so that a test passes on a machine that is ten times busier, and ends
// soon on a quiet one. What is promised to come in time has a [Meter]: the promise stands as it is on a quiet machine,
// and is extended by the pauses that the meter has measured meanwhile.
//
// A pause is how much later than it asked for a goroutine of this process is woken. Waits inside a testing/synctest
// bubble need neither: their clock does not run while anything works.
package testkit
