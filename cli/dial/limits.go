package dial

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The limits of a hub that its clients go by.
const (
	// MaxPayload is the most bytes of payload in a message.
	MaxPayload = 1 << 20
	// MaxInFlight is the most messages of a stream without a result.
	MaxInFlight = 1000
	// MaxBatchBytes is the size of a full batch of a stream. With a further message it is below the
	// 4 MiB that a hub always takes.
	MaxBatchBytes = 1 << 20
	// MaxBatchLines is the most sends that a hub takes in a batch of a stream.
	MaxBatchLines = 1000
	// ServerWait is the wait of a hub for a send without a wait timeout.
	ServerWait = 5 * time.Second
	// maxPage is the most entries on a page of a listing.
	maxPage = 1000
)

// ErrSilent: a stream ended because no answer came on it in time.
var ErrSilent = status.Error(codes.DeadlineExceeded, "no answer")
