// Package limits reads the limits of the process, memory and file descriptors, and shares them out:
// a budget for each use of memory, and a number of files for each port. It keeps the collector from
// running all the time in a small heap.
//
// Goroutines: none. The runtime calls a HeapFloor behind each collection, until its Close.
//
// Locking: HeapFloor.mu is a leaf. All other values do not change.
package limits
