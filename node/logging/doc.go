// Package logging is the log of a hub process. It never blocks its callers.
//
// Backpressure: the log writes [logLinesPerWindow] lines of a cause in a second, and counts the
// rest in a single line. The queue for the log's reader is bounded ([logQueueBytes],
// [logQueueLines]). A line that finds no room, or that can't be written, is lost and counted.
//
// Goroutines: one that writes the lines, and one that writes how many lines the log left out. Close
// ends both.
//
// Locking: logRates.mu guards the counts of lines, logWriter.mu the queued lines. They are the
// innermost locks of all: a hub calls its observers, which log, under a connection's lock.
package logging
