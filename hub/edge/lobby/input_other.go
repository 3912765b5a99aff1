//go:build !unix

package lobby

import "net"

// hasInput: only Unix lets a program look.
func hasInput(net.Conn) bool { return false }
