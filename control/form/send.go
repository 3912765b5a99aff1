package form

import (
	"errors"
	"fmt"

	"github.com/connhub/connhub/control/failure"
	controlv1 "github.com/connhub/connhub/gen/connhub/control/v1"
)

const (
	// MaxStreamedSends bounds the sends in a request of a stream: enough to make the cost of the
	// request itself negligible, and few enough to be of a single moment.
	MaxStreamedSends = 1000
	// MaxSequence is the highest sequence: beyond it JavaScript's numbers have gaps.
	MaxSequence = 1<<53 - 1
)

// CheckSend checks the rules for a send that its proto can't express.
func CheckSend(req *controlv1.SendRequest) error {
	return errors.Join(checkConflation(req), checkJSON(req.GetMessage()))
}

// checkConflation holds that the key and the policy come together.
func checkConflation(req *controlv1.SendRequest) error {
	conflates := req.GetOverflowPolicy() == controlv1.OverflowPolicy_OVERFLOW_POLICY_CONFLATE
	switch {
	case conflates && req.GetConflationKey() == "":
		return failure.InvalidField("conflation_key", "must be set with the policy CONFLATE")
	case !conflates && req.GetConflationKey() != "":
		return failure.InvalidField("conflation_key", "must be empty without the policy CONFLATE")
	}
	return nil
}

// CheckBatch checks the rules for the number and the sequences of the sends in a request of a
// SendStream. last is the highest sequence before them; CheckBatch returns the highest sequence
// after them. A test checks that it agrees with the rules in the proto.
func CheckBatch(sends []*controlv1.StreamedSend, last int64) (int64, error) {
	if len(sends) == 0 {
		return last, failure.InvalidField("sends", "must not be empty")
	}
	if len(sends) > MaxStreamedSends {
		return last, failure.LimitExceeded(
			"sends", "must have at most %d, has %d", MaxStreamedSends, len(sends))
	}
	for i, one := range sends {
		kind, description := failure.ErrInvalidField, ""
		switch sequence := one.GetSequence(); {
		case sequence < 1:
			description = "must be at least 1"
		case sequence > MaxSequence:
			kind = failure.ErrLimitExceeded
			description = fmt.Sprintf("must be at most %d", MaxSequence)
		case sequence <= last:
			description = fmt.Sprintf("must be above %d, the one before it", last)
		}
		if description != "" {
			return last, &failure.FieldError{
				Kind: kind, Field: fmt.Sprintf("sends[%d].sequence", i), Description: description,
			}
		}
		last = one.GetSequence()
	}
	return last, nil
}
