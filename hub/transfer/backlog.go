package transfer

// Backlog is the changes that wait for a new hub. The zero Backlog is empty. It needs a lock.
type Backlog[C any] struct {
	changes []C
	bytes   int64
	behind  bool
}

// MaxChanges is how many changes may wait.
const MaxChanges = 4096

// Add appends a change that holds bytes. Beyond MaxChanges changes or most bytes the backlog drops
// all, and the move can't go on.
func (b *Backlog[C]) Add(change C, bytes, most int64) {
	if b.behind {
		return
	}
	b.changes = append(b.changes, change)
	b.bytes += bytes
	if len(b.changes) > MaxChanges || b.bytes > most {
		*b = Backlog[C]{behind: true}
	}
}

// Take returns the changes and removes them. Error: ErrBehind.
func (b *Backlog[C]) Take() ([]C, error) {
	if b.behind {
		return nil, ErrBehind
	}
	changes := b.changes
	*b = Backlog[C]{}
	return changes, nil
}
