//go:build !unix

package lobby

import "net"

// hasInput returns false: it can look into a socket only on Unix.
func hasInput(net.Conn) bool { return false }
