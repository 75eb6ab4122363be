package lifecycle

import "sync"

// lane runs work in goroutines of its own, a bounded number at once.
type lane struct {
	slots chan struct{}
	wait  sync.WaitGroup
}

func newLane(width int) *lane { return &lane{slots: make(chan struct{}, width)} }

// try runs work if there is room for it, and tells whether there was. It calls
// ended when there is room again.
func (l *lane) try(work, ended func()) bool {
	select {
	case l.slots <- struct{}{}:
	default:
		return false
	}
	l.wait.Go(func() {
		work()
		<-l.slots
		ended()
	})
	return true
}
