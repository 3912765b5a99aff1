package hub

import "slices"

// Observer sees the changes of all connections of a hub. The hub calls its functions under the lock
// of the connection: they must be quick, must not block, and must not call the connection. The
// calls for a connection come in the order of its changes.
type Observer struct {
	// Ops are the kinds of changes that the observer sees; empty: all. Each delivery is several
	// changes, and an observer that does without them saves a tenth of their CPU.
	Ops []OpKind
	// Applied is called after each change. It gets op by value: a pointer would cost an allocation
	// for each change of each delivery.
	Applied func(c *Connection, op Op)
	// Emitted is called in place of Applied for an OpEvent; nil: Applied is. It reports whether the
	// event is queued for a backend, which gets it unless its stream breaks. False: no backend
	// wants the event, or none of those that do has room for it.
	Emitted func(c *Connection, op Op) (queued bool)
}

// observers are the observers of a hub. Static.
type observers struct {
	all  []observer
	seen uint32 // the kinds that any of them sees, a bit for each
}

// observer is an Observer with the kinds that it sees, a bit for each.
type observer struct {
	Observer

	sees uint32
}

func newObservers(all []Observer) (o observers) {
	for _, one := range all {
		sees := kindBits(one.Ops)
		o.all = append(o.all, observer{one, sees})
		o.seen |= sees
	}
	return o
}

// kindBits returns a bit for each of the kinds, or for all kinds if there are none.
func kindBits(kinds []OpKind) (bits uint32) {
	for k := OpAdmit; k < opEnd; k++ {
		if len(kinds) == 0 || slices.Contains(kinds, k) {
			bits |= 1 << k
		}
	}
	return bits
}

// tellAll calls the observers that see the kind of op. It reports whether any of them has queued
// op, which is an event.
func (o *observers) tellAll(c *Connection, op *Op) (queued bool) {
	for i := range o.all {
		switch one := &o.all[i]; {
		case one.sees&(1<<op.Kind) == 0:
		case op.Kind == OpEvent && one.Emitted != nil:
			queued = one.Emitted(c, *op) || queued
		case one.Applied != nil:
			one.Applied(c, *op)
		}
	}
	return queued
}
