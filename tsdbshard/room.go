package tsdbshard

// room is a slab whose parts can be given back, to be used again once no view
// can refer to them.
type room struct {
	slab
	free [roomClasses + 1][]slabPos // by size in units
	// retired are given back, in order of epoch.
	retired []retiredRoom
	drained int // of retired
}

const (
	roomUnit    = 16
	roomClasses = 15
)

// retiredRoom may still be looked at by views that are not younger than epoch.
type retiredRoom struct {
	epoch uint64
	at    slabPos
	units uint8
}

// unitsOf returns how many units n bytes take.
func unitsOf(n int) int { return (n + roomUnit - 1) / roomUnit }

// take reserves n bytes, at most as many as the largest class has, with those
// that are left over in the last unit.
func (r *room) take(n int) (at slabPos, size int) {
	units := unitsOf(n)
	free := &r.free[units]
	if k := len(*free); k > 0 {
		at, *free = (*free)[k-1], (*free)[:k-1]
		return at, units * roomUnit
	}
	at, _ = r.alloc(units * roomUnit)
	return at, units * roomUnit
}

// takeExactly reserves n bytes that are never given back: in a part that was
// if there is one, and without anything left over if not.
func (r *room) takeExactly(n int) (slabPos, []byte) {
	if units := unitsOf(n); units <= roomClasses && len(r.free[units]) > 0 {
		at, _ := r.take(n)
		return at, at.from(r.blocks)[:n:n]
	}
	return r.alloc(n)
}

// give takes a part back that no view can refer to.
func (r *room) give(at slabPos, size int) {
	units := size / roomUnit
	r.free[units] = append(r.free[units], at)
}

// retire takes a part back that views of up to an epoch may refer to.
func (r *room) retire(at slabPos, size int, epoch uint64) {
	r.retired = append(r.retired, retiredRoom{epoch: epoch, at: at, units: uint8(size / roomUnit)})
}

// reclaim frees what was retired before the oldest view was made.
func (r *room) reclaim(oldest uint64) {
	for r.drained < len(r.retired) && r.retired[r.drained].epoch < oldest {
		p := r.retired[r.drained]
		r.free[p.units] = append(r.free[p.units], p.at)
		r.drained++
	}
	if 2*r.drained > len(r.retired) {
		n := copy(r.retired, r.retired[r.drained:])
		r.retired, r.drained = r.retired[:n], 0
	}
}
