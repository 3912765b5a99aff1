package move

import "slices"

// faults are bugs that a test sows: the shell carries an effect out wrongly.
type faults struct {
	// isHeldDelivered: a hub delivers calls to shadows, and to connections that calls are not for.
	isHeldDelivered bool
	// isBackInDoubt: the old hub takes a sealed connection back when its link ends.
	isBackInDoubt bool
	// isHeldLost: a hub forgets calls that it has held.
	isHeldLost bool
	// message loses a message, or changes it.
	message func(l *link, m Message) (Message, bool)
	// change reports whether a change is forgotten on its way to the new hub.
	change func(r request) bool
	// field forgets a part of the state.
	field func(s *state)
}

func (f *faults) alter(l *link, m Message) (Message, bool) {
	if f.message == nil {
		return m, true
	}
	return f.message(l, m)
}

func (f *faults) forgetChanges(all []request) []request {
	all = slices.Clone(all)
	if f.change != nil {
		all = slices.DeleteFunc(all, f.change)
	}
	return all
}

func (f *faults) forget(s *state) {
	if f.field != nil {
		f.field(s)
	}
}
