package fairshare

import (
	"container/heap"
	"slices"
)

// Arrivals is a list with a bound that many share. When it is full, the oldest item of the largest
// user of the largest namespace goes: the oldest item of all may be all that its user has. The zero
// Arrivals is empty. It needs a lock.
//
// Where users choose their namespaces, they would choose many to look small. There the levels
// change places: Requests has callers in the place of namespaces, and namespaces in that of users.
//
// A change costs as many steps as the logarithm of the number of users. To take an item out of the
// middle costs as many steps as its user has items.
type Arrivals[T comparable] struct {
	len    int
	last   uint64 // number of the item that came last
	byName map[string]*namespaceArrivals[T]
	ranks  rankHeap[*namespaceArrivals[T]]
}

type namespaceArrivals[T comparable] struct {
	rank
	of     *Arrivals[T]
	name   string
	byName map[string]*UserArrivals[T]
	ranks  rankHeap[*UserArrivals[T]]
}

// UserArrivals are the items of a user.
type UserArrivals[T comparable] struct {
	rank
	of    *namespaceArrivals[T]
	name  string
	items []T      // in the order of arrival
	at    []uint64 // their numbers
}

// Add appends an item. It returns where the item is, which Remove needs.
func (a *Arrivals[T]) Add(namespace, user string, item T) *UserArrivals[T] {
	ns := a.byName[namespace]
	if ns == nil {
		if a.byName == nil {
			a.byName = make(map[string]*namespaceArrivals[T])
		}
		ns = &namespaceArrivals[T]{of: a, name: namespace}
		ns.byName = make(map[string]*UserArrivals[T])
		a.byName[namespace] = ns
		heap.Push(&a.ranks, ns)
	}
	u := ns.byName[user]
	if u == nil {
		u = &UserArrivals[T]{of: ns, name: user}
		ns.byName[user] = u
		heap.Push(&ns.ranks, u)
	}
	a.len++
	a.last++
	u.items, u.at = append(u.items, item), append(u.at, a.last)
	u.count, u.oldest = u.count+1, u.at[0]
	ns.count++
	u.updateRanks()
	return u
}

// Remove takes an item out of where Add put it.
func (a *Arrivals[T]) Remove(u *UserArrivals[T], item T) {
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
	u.updateRanks()
}

// First returns the item that goes next, and its place. The list must not be empty.
func (a *Arrivals[T]) First() (*UserArrivals[T], T) {
	u := a.ranks[0].ranks[0]
	return u, u.items[0]
}

// Len returns how many items there are.
func (a *Arrivals[T]) Len() int { return a.len }

// updateRanks puts the user and its namespace in their places after a change, or takes them out
// when they are empty.
func (u *UserArrivals[T]) updateRanks() {
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

// rank is the place of a user or a namespace. The largest count comes first; of equal counts, the
// owner of the oldest item.
type rank struct {
	count    int
	oldest   uint64
	position int // in the heap
}

func (r *rank) getRank() *rank { return r }

// rankHeap is a heap whose elements know their places.
type rankHeap[R interface{ getRank() *rank }] []R

// Len implements heap.Interface.
func (h rankHeap[R]) Len() int { return len(h) }

// Less implements heap.Interface.
func (h rankHeap[R]) Less(i, j int) bool {
	a, b := h[i].getRank(), h[j].getRank()
	return a.count > b.count || a.count == b.count && a.oldest < b.oldest
}

// Swap implements heap.Interface.
func (h rankHeap[R]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].getRank().position, h[j].getRank().position = i, j
}

// Push implements heap.Interface.
func (h *rankHeap[R]) Push(x any) {
	r := x.(R)
	r.getRank().position = len(*h)
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
