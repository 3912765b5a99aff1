package load

import (
	"errors"
	"fmt"
)

// ErrFileLimit: this process may not open as many files as the crowd has clients.
var ErrFileLimit = errors.New("the limit of open files is too low")

// spareFiles are for what is not a client: standard streams, the poller, connections to hubs, libraries.
const spareFiles = 64

// checkFiles tells whether so many clients may be open at once. limit 0: there is none that is known.
func checkFiles(clients int, limit uint64) error {
	if need := uint64(clients) + spareFiles; limit > 0 && need > limit {
		return fmt.Errorf("%w: %d connections need %d, and %d are allowed (ulimit -n %d, or fewer connections)", ErrFileLimit, clients, need, limit, need)
	}
	return nil
}
