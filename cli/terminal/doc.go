// Package terminal is the input and output of commands: streams and colours, tables, progress, the
// words for times and counts, usage errors and exit codes.
//
// Text from strangers goes through [MakePrintable] before it is printed. Tables and fields do that
// themselves.
//
// Locking: none. A [Terminal] and a [Progress] belong to the goroutine of their command.
package terminal
