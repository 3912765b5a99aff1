package discovery

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Errors that the package returns.
var (
	// ErrClosed: the Registry is closed.
	ErrClosed = errors.New("registry is closed")
	// ErrAlreadyRegistered: this Registry has registered a hub already. It registers a single hub
	// at a time.
	ErrAlreadyRegistered = errors.New("a hub is registered already")
	// ErrIDTaken: a different hub is registered with the id.
	ErrIDTaken = errors.New("hub id is taken")
	// ErrDeclaredDead: the id was declared dead and can't be registered again.
	ErrDeclaredDead = errors.New("hub id was declared dead")
	// ErrStillRegistered: the hub is registered, so it can't be declared dead.
	ErrStillRegistered = errors.New("hub is registered")
	// ErrForeignCluster: the cluster in etcd is not the cluster that this Registry found there
	// first.
	ErrForeignCluster = errors.New("etcd holds another cluster")
	// ErrRefused: etcd does not know the credentials, or they do not permit the calls that a hub
	// makes.
	ErrRefused = errors.New("etcd refuses the credentials")
)

// refusals are the errors of etcd that mean ErrRefused.
var refusals = []error{
	rpctypes.ErrAuthFailed, rpctypes.ErrPermissionDenied, rpctypes.ErrUserEmpty,
	rpctypes.ErrUserNotFound, rpctypes.ErrInvalidAuthMgmt,
}

// translateError turns an error of etcd's client or of a stream into an error that callers can
// compare.
func translateError(err error) error {
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

// isFinal reports whether a further attempt would fail with the same error.
func isFinal(err error) bool {
	for _, f := range []error{
		ErrClosed, ErrIDTaken, ErrDeclaredDead, ErrForeignCluster, ErrRefused,
	} {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}
