// Package fairshare gives out a bound that many users and namespaces share: the largest user of the
// largest namespace pays. It imports nothing of ours.
package fairshare

import (
	"cmp"
	"container/heap"
	"slices"
)

// Holder holds bytes of a budget that many share.
type Holder[T any] struct {
	Of        T      // the holder
	Namespace string // it draws on the share of the namespace
	User      string // empty: the holder counts as a user of its own
	Bytes     int64  // above 0; a holder without bytes never pays

	// Shared: many others hold the same bytes, so ending this holder frees next to nothing.
	Shared bool
	// First has the holder pay before others that hold exactly as much.
	First bool
}

// Shares finds the holders that pay when a budget is over its bound. It is for a single goroutine.
//
// Problem: many namespaces, users and connections draw on a budget. The caller that finds the
// budget full is seldom the caller that filled it.
//
// Rule: the largest holder of the largest user of the largest namespace pays. Then it is taken out,
// and the same question is asked again. So no namespace below the average pays while another is
// above; nor does a user within its namespace, nor a connection within its user. Holders of shared
// bytes come late, but before those that hold less than the average: closing a small holder frees
// little as well.
//
// Outline: Add collects. The first call of Next builds a heap of namespaces, and in each a heap of
// users. N holders cost N log N steps in all. The caller bounds how often that happens: it frees
// some share of the budget at a time.
type Shares[T any] struct {
	byName map[string]*namespaceShare[T]
	heap   shareHeap[*namespaceShare[T]]
	built  bool // heap is
}

// Add takes in a holder. It must not be called after Next.
func (s *Shares[T]) Add(h Holder[T]) {
	if h.Bytes <= 0 {
		return
	}
	if s.byName == nil {
		s.byName = make(map[string]*namespaceShare[T])
	}
	ns := s.byName[h.Namespace]
	if ns == nil {
		ns = &namespaceShare[T]{byName: make(map[string]*userShare[T])}
		ns.heap.paysBefore = (*userShare[T]).paysBefore
		s.byName[h.Namespace] = ns
	}
	ns.addHolder(h)
}

// Next returns the holder that pays next, and counts it no more. It reports false when none is
// left.
func (s *Shares[T]) Next() (Holder[T], bool) {
	if !s.built {
		s.built = true
		s.heap.paysBefore = (*namespaceShare[T]).paysBefore
		for _, ns := range s.byName {
			ns.buildHeap()
			s.heap.all = append(s.heap.all, ns)
		}
		heap.Init(&s.heap)
	}
	if s.heap.Len() == 0 {
		return Holder[T]{}, false
	}
	largest := s.heap.all[0]
	h := largest.nextHolder()
	s.heap.settleTop(largest.bytes > 0)
	return h, true
}

// namespaceShare is the sum of a namespace.
type namespaceShare[T any] struct {
	bytes  int64
	byName map[string]*userShare[T]
	heap   shareHeap[*userShare[T]] // all users, also those without a name

	users, all int64 // how many there were at first, and their bytes
	// leftovers: no user is left that holds an average share alone. Users pay for all they hold.
	leftovers bool
}

func (ns *namespaceShare[T]) addHolder(h Holder[T]) {
	user := ns.byName[h.User]
	if user == nil || h.User == "" {
		user = &userShare[T]{}
		user.holders = user.first[:0]
		ns.heap.all = append(ns.heap.all, user)
	}
	if h.User != "" {
		ns.byName[h.User] = user
	}
	user.addHolder(h)
	ns.bytes += h.Bytes
}

func (ns *namespaceShare[T]) buildHeap() {
	ns.users, ns.all = int64(ns.heap.Len()), ns.bytes
	for _, user := range ns.heap.all {
		user.sortHolders()
	}
	heap.Init(&ns.heap)
}

// nextHolder takes out the holder that pays. There must be a holder.
func (ns *namespaceShare[T]) nextHolder() Holder[T] {
	if top := ns.heap.all[0]; !ns.leftovers && top.own*ns.users < ns.all {
		ns.leftovers = true
		for _, user := range ns.heap.all {
			user.leftovers = true
		}
		heap.Init(&ns.heap)
	}
	user := ns.heap.all[0]
	h := user.nextHolder()
	ns.bytes -= h.Bytes
	ns.heap.settleTop(user.bytes > 0)
	return h
}

// userShare is the sum of a user.
type userShare[T any] struct {
	bytes     int64
	own       int64 // of bytes: not shared
	leftovers bool  // of the namespace
	holders   []Holder[T]
	first     [1]Holder[T] // memory for a single holder: most users have no more
}

func (u *userShare[T]) addHolder(h Holder[T]) {
	u.holders = append(u.holders, h)
	u.bytes += h.Bytes
	if !h.Shared {
		u.own += h.Bytes
	}
}

// sortHolders sorts the holders: the last pays first.
func (u *userShare[T]) sortHolders() {
	if len(u.holders) == 1 {
		return // as a rule
	}
	class := func(h *Holder[T]) int { // of those that pay late, 0
		if h.Shared || h.Bytes*int64(len(u.holders)) < u.bytes {
			return 0
		}
		return 1
	}
	slices.SortFunc(u.holders, func(a, b Holder[T]) int {
		bySize := cmp.Or(cmp.Compare(class(&a), class(&b)), cmp.Compare(a.Bytes, b.Bytes))
		return cmp.Or(bySize, compareFirst(&a, &b))
	})
}

func (u *userShare[T]) nextHolder() Holder[T] {
	last := len(u.holders) - 1
	h := u.holders[last]
	u.holders = u.holders[:last]
	u.bytes -= h.Bytes
	if !h.Shared {
		u.own -= h.Bytes
	}
	return h
}

func compareFirst[T any](a, b *Holder[T]) int {
	switch {
	case a.First == b.First:
		return 0
	case a.First:
		return 1
	default:
		return -1
	}
}

// paysBefore reports whether ns pays before o.
func (ns *namespaceShare[T]) paysBefore(o *namespaceShare[T]) bool { return ns.bytes > o.bytes }

// paysBefore reports whether u pays before o.
func (u *userShare[T]) paysBefore(o *userShare[T]) bool {
	mine, others := u.own, o.own
	if u.leftovers {
		mine, others = u.bytes, o.bytes
	}
	if mine != others {
		return mine > others
	}
	return compareFirst(&u.holders[len(u.holders)-1], &o.holders[len(o.holders)-1]) > 0
}

// shareHeap is a heap whose first element pays first.
type shareHeap[S any] struct {
	all        []S
	paysBefore func(a, b S) bool // static
}

// Len implements heap.Interface.
func (h *shareHeap[S]) Len() int { return len(h.all) }

// Less implements heap.Interface.
func (h *shareHeap[S]) Less(i, j int) bool { return h.paysBefore(h.all[i], h.all[j]) }

// Swap implements heap.Interface.
func (h *shareHeap[S]) Swap(i, j int) { h.all[i], h.all[j] = h.all[j], h.all[i] }

// Push implements heap.Interface.
func (h *shareHeap[S]) Push(x any) { h.all = append(h.all, x.(S)) }

// Pop implements heap.Interface.
func (h *shareHeap[S]) Pop() any {
	last := len(h.all) - 1
	x := h.all[last]
	h.all = h.all[:last]
	return x
}

// settleTop puts the first element, which has become smaller, in its place, or takes it out if
// nothing of it is left.
func (h *shareHeap[S]) settleTop(left bool) {
	if left {
		heap.Fix(h, 0)
	} else {
		heap.Pop(h)
	}
}
