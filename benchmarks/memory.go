package benchmarks

import "time"

// memoryWatch looks at the resident memory of processes ten times a second and
// keeps the largest sum.
type memoryWatch struct {
	processes Processes
	end       chan struct{}
	ended     chan struct{}
	peak      int64
	err       error
}

// watchMemory starts the watch; stop ends it.
func watchMemory(p Processes) *memoryWatch {
	m := &memoryWatch{processes: p, end: make(chan struct{}), ended: make(chan struct{})}
	go m.run()
	return m
}

func (m *memoryWatch) run() {
	defer close(m.ended)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		m.look()
		select {
		case <-tick.C:
		case <-m.end:
			m.look()
			return
		}
	}
}

func (m *memoryWatch) look() {
	if m.err != nil {
		return
	}
	var now int64
	if now, m.err = m.processes.RSS(); now > m.peak {
		m.peak = now
	}
}

// stop returns the largest resident memory seen, in bytes.
func (m *memoryWatch) stop() (int64, error) {
	close(m.end)
	<-m.ended
	return m.peak, m.err
}
