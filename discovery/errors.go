package discovery

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Errors that the package returns.
var (
	// ErrClosed: the Registry was closed.
	ErrClosed = errors.New("registry is closed")
	// ErrAlreadyRegistered: this Registry has registered a hub; it registers one at a time.
	ErrAlreadyRegistered = errors.New("a hub is registered already")
	// ErrIDTaken: another hub is registered with the id.
	ErrIDTaken = errors.New("hub id is taken")
	// ErrDeclaredDead: the id was declared dead, so it is never to be seen again.
	ErrDeclaredDead = errors.New("hub id was declared dead")
	// ErrStillRegistered: a hub that is registered can't be declared dead.
	ErrStillRegistered = errors.New("hub is registered")
	// ErrForeignCluster: etcd holds another cluster than the one this Registry met first.
	ErrForeignCluster = errors.New("etcd holds another cluster")
	// ErrRefused: etcd doesn't know the credentials, or they don't allow what a hub does.
	ErrRefused = errors.New("etcd refuses the credentials")
)

// refusals are etcd's ways to say ErrRefused.
var refusals = []error{
	rpctypes.ErrAuthFailed, rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound,
	rpctypes.ErrInvalidAuthMgmt,
}

// failure turns an error of etcd's client or of a stream into one that the callers can tell apart.
func failure(err error) error {
	if err == nil {
		return nil
	}
	err = rpctypes.Error(err)
	for _, r := range refusals {
		if errors.Is(err, r) {
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return err
}

// final tells errors that trying again doesn't mend.
func final(err error) bool {
	for _, f := range []error{ErrClosed, ErrIDTaken, ErrDeclaredDead, ErrForeignCluster, ErrRefused} {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}
