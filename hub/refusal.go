package hub

// MaxRefusals bounds the refusals that one call names. A caller mends them in turn, and the names
// bound the answer: about 200 KiB with the longest names of groups.
const MaxRefusals = 100

// Refusal names a connection that a call did not change.
type Refusal struct {
	// Connection is the connection's id.
	Connection ConnectionID
	// Group is that of the membership; empty if the call is not about groups.
	Group string
	// Reason is ErrGroupLimit, ErrGrantLimit or ErrClosed.
	Reason error
}

// appendRefusal keeps the first MaxRefusals.
func appendRefusal(all []Refusal, one Refusal) []Refusal {
	if len(all) >= MaxRefusals {
		return all
	}
	return append(all, one)
}
