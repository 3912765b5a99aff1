package hub

// MaxRefusals is the most refusals that one call names. A caller mends one after the other, and the names bound the answer: about 200 KiB with the
// longest names of groups.
const MaxRefusals = 100

// Refusal names a connection that a call did not change.
type Refusal struct {
	Connection ConnectionID
	Group      string // of the membership; empty where the call is not about groups
	Reason     error  // ErrGroupLimit, ErrGrantLimit or ErrClosed
}

// appendRefusal keeps the first MaxRefusals.
func appendRefusal(all []Refusal, one Refusal) []Refusal {
	if len(all) >= MaxRefusals {
		return all
	}
	return append(all, one)
}
