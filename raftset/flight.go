package raftset

import "sync"

// flight is one entry between its proposal and its application, with the calls
// that wait for it.
type flight struct {
	data  []byte
	term  uint64
	calls []*call
}

// settle answers every call with an error.
func (f *flight) settle(err error) {
	for _, c := range f.calls {
		c.done <- outcome{err: err}
	}
}

// flights are the entries in flight, in the order in which they were proposed,
// which is the order in which they are applied.
//
// The library's own futures are not waited for: it never answers those of
// entries that were committed but not yet applied when it shuts down, and a
// goroutine that waits for one then waits for ever. An entry is known again at
// its application by where its data lies in memory: on the replica that
// proposed it the library hands the state machine that very slice.
type flights struct {
	slots chan struct{}
	// landed has room for one: nothing is in flight any more.
	landed chan struct{}

	mu   sync.Mutex
	list []*flight
}

func newFlights(limit int) *flights {
	return &flights{slots: make(chan struct{}, limit), landed: make(chan struct{}, 1)}
}

// push adds a flight, for which the caller holds a slot.
func (s *flights) push(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = append(s.list, f)
}

// empty tells that nothing is in flight.
func (s *flights) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list) == 0
}

// land takes out the flight of an applied entry and those proposed before it,
// which cannot be applied any more. It is nil for entries proposed elsewhere.
func (s *flights) land(data []byte) (landed *flight, lost []*flight) {
	if len(data) == 0 {
		return nil, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.list {
		if &f.data[0] != &data[0] {
			continue
		}
		if i > 0 {
			lost = append(lost, s.list[:i]...)
		}
		s.removeLocked(i + 1)
		return f, lost
	}
	return nil, nil
}

// drop takes out one flight, and tells whether it was still there.
func (s *flights) drop(f *flight) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.list {
		if s.list[i] == f {
			copy(s.list[1:i+1], s.list[:i])
			s.removeLocked(1)
			return true
		}
	}
	return false
}

// others takes out the flights that were not proposed in term.
func (s *flights) others(term uint64) (lost []*flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.list) && s.list[n].term != term {
		n++
	}
	lost = append(lost, s.list[:n]...)
	s.removeLocked(n)
	return lost
}

// removeLocked takes out the first n flights and frees their slots.
func (s *flights) removeLocked(n int) {
	rest := copy(s.list, s.list[n:])
	clear(s.list[rest:])
	s.list = s.list[:rest]
	for range n {
		<-s.slots
	}
	if rest == 0 {
		notify(s.landed)
	}
}
