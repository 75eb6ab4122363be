package router

import (
	"math/rand/v2"
	"sync"

	"github.com/quorate/quorate"
)

// errClosing is what other nodes are told by a router that ends.
var errClosing = retriable(quorate.Errorf(quorate.Unavailable, "the node is stopping"))

// servedViews are the views that other nodes have pinned of replicas here. Each
// is owned by the stream that pinned it, and ends with that or with the router,
// but not before the last request that reads it.
type servedViews struct {
	metrics *Metrics

	mu     sync.Mutex
	last   uint64 // number of the newest view
	open   map[uint64]*servedView
	closed bool
	// stopped is closed by close.
	stopped chan struct{}
}

// servedView is one of them.
type servedView struct {
	layer localLayer
	owner quorate.NodeID
	users int // guarded by servedViews.mu, as the next
	ended bool
}

// newServedViews numbers views from a random number on, so that none of an
// earlier life of this node is taken for one of this.
func newServedViews(m *Metrics) *servedViews {
	return &servedViews{
		metrics: m, last: rand.Uint64(), open: make(map[uint64]*servedView), stopped: make(chan struct{}),
	}
}

// add takes a view over for the node that owns it, and numbers it.
func (v *servedViews) add(view View, owner quorate.NodeID) (uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		view.Close()
		return 0, errClosing
	}
	v.last++
	v.open[v.last] = &servedView{layer: localLayer{view}, owner: owner}
	v.metrics.servedViews.Inc()
	return v.last, nil
}

// use returns a view for a request of its owner, which calls done, once, when it
// has read.
func (v *servedViews) use(id uint64, owner quorate.NodeID) (l localLayer, done func(), err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	view := v.open[id]
	if view == nil || view.ended || view.owner != owner {
		return l, nil, quorate.Errorf(quorate.Unavailable, "view %d is not open on this node", id)
	}
	view.users++
	return view.layer, func() { v.finish(id, view, func() { view.users-- }) }, nil
}

// end gives a view up: requests that read it finish, and no other begins.
func (v *servedViews) end(id uint64) {
	v.mu.Lock()
	view := v.open[id]
	v.mu.Unlock()
	v.finish(id, view, func() { view.ended = true })
}

// finish changes a view's use and closes the view if nobody needs it any more.
func (v *servedViews) finish(id uint64, view *servedView, change func()) {
	v.mu.Lock()
	change()
	over := view.ended && view.users == 0
	if over {
		delete(v.open, id)
	}
	v.mu.Unlock()
	if over {
		view.layer.release()
		v.metrics.servedViews.Dec()
	}
}

// close ends the streams that own views. It does not wait for requests that
// read: those end with the port that they came by, and a view outlives its shard.
func (v *servedViews) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.closed {
		v.closed = true
		close(v.stopped)
	}
}
