package hub

import (
	"container/heap"
	"slices"
)

// arrivals is a list with a bound that many share: when it is full, the oldest item of the largest user of the largest namespace goes,
// not the oldest of all, which may be the only one of its user. The zero arrivals is empty. It needs a lock.
//
// Where users choose their namespaces, they would choose many to look small. There the levels change places:
// requests has callers in the place of namespaces, and namespaces in that of users.
//
// A change costs as many steps as the logarithm of the number of users, but taking an item out of the middle costs as many as its user has.
type arrivals[T comparable] struct {
	len    int
	last   uint64 // number of the item that came last
	byName map[string]*namespaceArrivals[T]
	ranks  rankHeap[*namespaceArrivals[T]]
}

type namespaceArrivals[T comparable] struct {
	rank
	of     *arrivals[T]
	name   string
	byName map[string]*userArrivals[T]
	ranks  rankHeap[*userArrivals[T]]
}

// userArrivals is what one user has in the list.
type userArrivals[T comparable] struct {
	rank
	of    *namespaceArrivals[T]
	name  string
	items []T      // in the order of arrival
	at    []uint64 // their numbers
}

// add appends an item. It returns where the item is, which remove needs.
func (a *arrivals[T]) add(namespace, user string, item T) *userArrivals[T] {
	ns := a.byName[namespace]
	if ns == nil {
		if a.byName == nil {
			a.byName = make(map[string]*namespaceArrivals[T])
		}
		ns = &namespaceArrivals[T]{of: a, name: namespace, byName: make(map[string]*userArrivals[T])}
		a.byName[namespace] = ns
		heap.Push(&a.ranks, ns)
	}
	u := ns.byName[user]
	if u == nil {
		u = &userArrivals[T]{of: ns, name: user}
		ns.byName[user] = u
		heap.Push(&ns.ranks, u)
	}
	a.len++
	a.last++
	u.items, u.at = append(u.items, item), append(u.at, a.last)
	u.count, u.oldest = u.count+1, u.at[0]
	ns.count++
	u.settle()
	return u
}

// remove takes an item out of where add put it.
func (a *arrivals[T]) remove(u *userArrivals[T], item T) {
	i := slices.Index(u.items, item)
	switch {
	case i < 0:
		return
	case i == 0: // the slices' heads are given back when append next makes them grow
		var none T
		u.items[0] = none
		u.items, u.at = u.items[1:], u.at[1:]
	default:
		u.items, u.at = slices.Delete(u.items, i, i+1), slices.Delete(u.at, i, i+1)
	}
	a.len--
	u.count--
	u.of.count--
	if u.count > 0 {
		u.oldest = u.at[0]
	}
	u.settle()
}

// first returns the item that goes next, and where it is. There must be one.
func (a *arrivals[T]) first() (*userArrivals[T], T) {
	u := a.ranks[0].ranks[0]
	return u, u.items[0]
}

// settle puts the user and its namespace where they belong after a change, or takes them out when they are empty.
func (u *userArrivals[T]) settle() {
	ns := u.of
	if u.count == 0 {
		heap.Remove(&ns.ranks, u.position)
		delete(ns.byName, u.name)
	} else {
		heap.Fix(&ns.ranks, u.position)
	}
	if ns.count == 0 {
		heap.Remove(&ns.of.ranks, ns.position)
		delete(ns.of.byName, ns.name)
		return
	}
	ns.oldest = ns.ranks[0].oldest
	heap.Fix(&ns.of.ranks, ns.position)
}

// rank is the place of something that is counted: what has most comes first, of equals what has the oldest item that would go.
type rank struct {
	count    int
	oldest   uint64
	position int // in the heap
}

func (r *rank) ranked() *rank { return r }

// rankHeap is a heap whose elements know their places.
type rankHeap[R interface{ ranked() *rank }] []R

// Len implements heap.Interface.
func (h rankHeap[R]) Len() int { return len(h) }

// Less implements heap.Interface.
func (h rankHeap[R]) Less(i, j int) bool {
	a, b := h[i].ranked(), h[j].ranked()
	return a.count > b.count || a.count == b.count && a.oldest < b.oldest
}

// Swap implements heap.Interface.
func (h rankHeap[R]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].ranked().position, h[j].ranked().position = i, j
}

// Push implements heap.Interface.
func (h *rankHeap[R]) Push(x any) {
	r := x.(R)
	r.ranked().position = len(*h)
	*h = append(*h, r)
}

// Pop implements heap.Interface.
func (h *rankHeap[R]) Pop() any {
	last := len(*h) - 1
	r := (*h)[last]
	var none R
	(*h)[last] = none
	*h = (*h)[:last]
	return r
}
