// Package bench is `connhub bench`: it opens connections to a running hub, puts load on it, prints
// figures and closes the connections. docs/bench.md explains the figures.
//
// The clients are those of package load; sends take the API that every backend uses.
//
// Goroutines: a sender for each message in flight of unary calls, a writer and a reader for each
// stream, and one that draws the progress. All end before the report.
//
// Locking: driver.mu guards the counts of results. driver.waiting is taken before it, by the sender
// that waits for the next message.
//
// Errors: a report with a problem (a missing or doubled message, a lost connection) is printed and
// returned as an error, so that the exit code is 1.
package bench
