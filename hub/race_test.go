//go:build race

package hub

// raceEnabled: memory and time are not what they are without it.
const raceEnabled = true
