package load

import (
	"errors"
	"fmt"
)

// ErrFileLimit means that this process may open fewer files than the crowd has clients.
var ErrFileLimit = errors.New("the limit of open files is too low")

// spareFiles is the number of files beside the clients': standard streams, the poller, connections
// to hubs, libraries.
const spareFiles = 64

// checkFileLimit returns ErrFileLimit if limit is too low for that many clients. A limit of 0 means
// that the limit is unknown.
func checkFileLimit(clients int, limit uint64) error {
	if need := uint64(clients) + spareFiles; limit > 0 && need > limit {
		return fmt.Errorf(
			"%w: %d connections need %d, and %d are allowed (ulimit -n %d, or fewer connections)",
			ErrFileLimit, clients, need, limit, need,
		)
	}
	return nil
}
