package form

import (
	"errors"
	"fmt"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/internal/names"
)

// Limits of a Target that span its fields. The proto has the rules of a single name too.
const (
	MaxTargetNames = 10_000
	maxTargetBytes = 1 << 20
)

// NewTarget translates a Target. It shares the strings.
func NewTarget(t *controlv1.Target) hub.Target {
	return hub.Target{
		Connections: t.GetConnections(),
		Users:       t.GetUsers(),
		Groups:      t.GetGroups(),
		Everyone:    t.GetEveryone(),
		Except: hub.Exclusion{
			Connections: t.GetExcept().GetConnections(),
			Users:       t.GetExcept().GetUsers(),
			Groups:      t.GetExcept().GetGroups(),
		},
	}
}

// namesNothing reports whether a Target has none of the parts that match connections.
func namesNothing(t *controlv1.Target) bool {
	return !t.GetEveryone() &&
		len(t.GetConnections()) == 0 && len(t.GetUsers()) == 0 && len(t.GetGroups()) == 0
}

// onlyReads reports whether a request only reads. Then a target that names nothing means everyone.
func onlyReads(req any) bool {
	switch req.(type) {
	case *controlv1.ListConnectionsRequest, *controlv1.CheckPermissionsRequest:
		return true
	}
	return false
}

// OrEveryone returns the Target of a request that only reads: everyone if t names nothing.
// Exceptions stay.
func OrEveryone(t *controlv1.Target) *controlv1.Target {
	if namesNothing(t) {
		return &controlv1.Target{Everyone: true, Except: t.GetExcept()}
	}
	return t
}

// checkTarget checks all rules for a Target, with the rules for its names: for thousands of names
// the general validator takes twenty times as long. A test checks that both agree.
func checkTarget(t *controlv1.Target) error {
	if namesNothing(t) {
		return &failure.FieldError{
			Kind: failure.ErrTargetEmpty, Field: "target",
			Description: "names nothing; everyone must be asked for",
		}
	}
	return checkNames(t)
}

// checkNames checks the rules for the names of a Target.
func checkNames(t *controlv1.Target) error {
	lists := [...]struct {
		field string
		names []string
	}{
		{"target.connections", t.GetConnections()},
		{"target.users", t.GetUsers()},
		{"target.groups", t.GetGroups()},
		{"target.except.connections", t.GetExcept().GetConnections()},
		{"target.except.users", t.GetExcept().GetUsers()},
		{"target.except.groups", t.GetExcept().GetGroups()},
	}
	names, bytes := 0, 0
	for _, list := range lists {
		names += len(list.names)
		for _, name := range list.names {
			bytes += len(name)
		}
	}
	if names > MaxTargetNames {
		return failure.LimitExceeded(
			"target", "must have at most %d names, has %d", MaxTargetNames, names)
	}
	if bytes > maxTargetBytes {
		return failure.LimitExceeded(
			"target", "must have at most %d bytes of names, has %d", maxTargetBytes, bytes)
	}
	for _, list := range lists {
		for i, name := range list.names {
			if err := checkName(name); err != nil {
				err.Field = fmt.Sprintf("%s[%d]", list.field, i)
				return err
			}
		}
	}
	return nil
}

// checkName checks the rules for a name. The caller sets the field of the error.
func checkName(name string) *failure.FieldError {
	switch err := names.Check(name); {
	case err == nil:
		return nil
	case errors.Is(err, names.ErrEmpty):
		return failure.InvalidField("", "must not be empty")
	case errors.Is(err, names.ErrTooLong):
		return failure.LimitExceeded("", "must be at most %d bytes", names.MaxBytes)
	default: // a request is UTF-8 before its fields are checked
		return failure.InvalidField("", noControl)
	}
}

// noControl is the error text for a name with a control character.
const noControl = "must not have control characters"
