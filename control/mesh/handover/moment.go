package handover

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// encodeUntil returns the time from now until a moment, or nil for the zero moment.
func encodeUntil(moment, now time.Time) *durationpb.Duration {
	if moment.IsZero() {
		return nil
	}
	return durationpb.New(moment.Sub(now))
}

// decodeUntil is the inverse of encodeUntil.
func decodeUntil(d *durationpb.Duration, now time.Time) (time.Time, error) {
	if d == nil {
		return time.Time{}, nil
	}
	if err := d.CheckValid(); err != nil {
		return time.Time{}, brokenError("%v", err)
	}
	return now.Add(d.AsDuration()), checkKnown(d)
}

// encodeSince returns the time from a moment to now, or nil for the zero moment.
func encodeSince(moment, now time.Time) *durationpb.Duration {
	if moment.IsZero() {
		return nil
	}
	return durationpb.New(now.Sub(moment))
}

// decodeSince is the inverse of encodeSince.
func decodeSince(d *durationpb.Duration, now time.Time) (time.Time, error) {
	if d == nil {
		return time.Time{}, nil
	}
	if err := d.CheckValid(); err != nil {
		return time.Time{}, brokenError("%v", err)
	}
	return now.Add(-d.AsDuration()), checkKnown(d)
}

// encodeDate returns a moment that decides nothing, or nil for the zero moment.
func encodeDate(moment time.Time) *timestamppb.Timestamp {
	if moment.IsZero() {
		return nil
	}
	return timestamppb.New(moment)
}

// decodeDate is the inverse of encodeDate.
func decodeDate(t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, brokenError("%v", err)
	}
	return t.AsTime(), checkKnown(t)
}
