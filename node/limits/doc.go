// Package limits reads the limits of the process, memory and file descriptors, and shares them out:
// a budget for each use of memory, and a number of files for each port.
//
// Locking: none. Its values do not change.
package limits
