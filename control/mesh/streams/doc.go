// Package streams reads and writes gRPC streams for handlers that wait for several events at once.
// gRPC's Recv and Send block, and only the end of their stream ends them.
package streams
