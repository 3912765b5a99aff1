package hub

import "errors"

// The errors of the package. Package control/failure has a row for each in its status table.
var (
	// ErrShuttingDown: the hub is leaving and takes nothing new.
	ErrShuttingDown = errors.New("hub is shutting down")
	// ErrConnectionNotFound: the namespace has no such connection here.
	ErrConnectionNotFound = errors.New("connection not found")
	// ErrInvalidConnectionID: the text is not a connection id.
	ErrInvalidConnectionID = errors.New("invalid connection id")
	// ErrGroupNotFound: the group has no member here.
	ErrGroupNotFound = errors.New("group not found")
	// ErrGroupLimit: the connection is in MaxGroups groups.
	ErrGroupLimit = errors.New("connection is in the most groups it may be in")
	// ErrGrantLimit: the connection has as many grants as it may.
	ErrGrantLimit = errors.New("connection has the most grants it may have")
	// ErrTooManyMatched: more connections match than the caller allowed.
	ErrTooManyMatched = errors.New("more connections match than allowed")
	// ErrRequestIDReused: the request id was used for a different request.
	ErrRequestIDReused = errors.New("request id was used for a different request")
	// ErrTooManyConnections: the hub holds as many connections as it may.
	ErrTooManyConnections = errors.New("hub holds the most connections it may")
	// ErrClosed: the connection is closed.
	ErrClosed = errors.New("connection is closed")
	// ErrAckForged: the client confirmed a message that it was never given.
	ErrAckForged = errors.New("acknowledged what was not sent")
	// ErrResumeRefused: the connection can't be resumed with this token.
	ErrResumeRefused = errors.New("resume refused")
)
