package metasvc

import (
	"context"
	"errors"
	"sync"
)

// flights lets one caller at a time do a thing of one name, and the others
// wait for it. Unlike x/sync/singleflight it runs the work under the context
// of the caller that does it: a caller that gives up hands the work to the
// next, and no goroutine outlives its caller.
type flights struct {
	mu       sync.Mutex // guards underWay
	underWay map[string]*flight
}

type flight struct {
	done chan struct{}
	err  error // set before done is closed
}

// do calls work, unless another caller is at it: then do waits, returns that
// caller's error if there was one, and else calls work, which is to find
// first what the other has done.
func (f *flights) do(ctx context.Context, name string, work func() error) error {
	for {
		f.mu.Lock()
		other, busy := f.underWay[name]
		if !busy {
			own := &flight{done: make(chan struct{})}
			if f.underWay == nil {
				f.underWay = make(map[string]*flight)
			}
			f.underWay[name] = own
			f.mu.Unlock()
			own.err = work()
			f.mu.Lock()
			delete(f.underWay, name)
			f.mu.Unlock()
			close(own.done)
			return own.err
		}
		f.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-other.done:
		}
		// Another's patience is not ours.
		if other.err != nil && !errors.Is(other.err, context.Canceled) && !errors.Is(other.err, context.DeadlineExceeded) {
			return other.err
		}
	}
}
