package interchange

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// saveEvery is how often the state file is written at most: what is sent again
// after a kill is what was acknowledged in that time.
const saveEvery = time.Second

// request is a batch on its way.
type request struct {
	body   []byte
	counts counts
	// position is behind the last series that is complete with this request.
	position position
	// continues makes the request wait until all before it are acknowledged.
	continues bool

	settled bool
}

// outbox sends the requests of an importer, several at a time, and keeps
// account of what was acknowledged in order. Its methods are called by the
// importer's goroutine; it starts one for each request in flight.
type outbox struct {
	importer *importer
	sender   *sender
	cancel   context.CancelFunc
	slots    chan struct{}
	work     sync.WaitGroup
	saved    time.Time

	mu    sync.Mutex
	idle  *sync.Cond // told when a request is settled
	queue []*request // posted and not behind the position yet, in order
	err   error      // the first failure
	// block is the number of the block at work, state how far it got, base how
	// many samples the blocks before it have.
	block int
	state blockState
	base  uint64
	// count is how many requests are in flight.
	count int
}

// newOutbox makes an outbox; cancel ends the context of the import, which its
// requests have.
func newOutbox(cancel context.CancelFunc, i *importer) *outbox {
	o := &outbox{
		importer: i, cancel: cancel, slots: make(chan struct{}, i.cfg.Concurrency), saved: time.Now(),
		sender: &sender{
			endpoint: &i.cfg.Endpoint, client: i.cfg.Endpoint.client(i.cfg.Concurrency),
			retrier: &retrier{patience: i.cfg.Patience, jitter: i.cfg.Jitter, logger: i.cfg.Logger},
		},
	}
	o.idle = sync.NewCond(&o.mu)
	return o
}

// startBlock tells that the requests to come are of a block.
func (o *outbox) startBlock(n int, at blockState) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.block, o.state, o.base = n, at, 0
	for _, b := range o.importer.report.Blocks[:n] {
		o.base += b.Samples
	}
	o.progressLocked()
}

// endBlock waits until all requests are acknowledged and notes the block as done.
func (o *outbox) endBlock() error {
	o.mu.Lock()
	o.drainLocked()
	err := o.err
	if err == nil {
		o.state.Done = true
		o.state.Slice, o.state.Series = 0, 0
		o.noteLocked()
		o.progressLocked()
	}
	o.mu.Unlock()
	return errors.Join(err, o.save())
}

// post sends a request as soon as it may be sent, and returns then. The error is
// that of an earlier request or of the context.
func (o *outbox) post(ctx context.Context, r request) error {
	o.mu.Lock()
	if r.continues {
		o.drainLocked()
	}
	err := o.err
	o.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case o.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	o.mu.Lock()
	o.queue = append(o.queue, &r)
	o.count++
	o.mu.Unlock()
	o.work.Go(func() {
		var out outcome
		var err error
		if r.counts.samples() > 0 {
			out, err = o.sender.send(ctx, r.body, r.counts)
		}
		<-o.slots
		o.settle(&r, out, err)
	})
	if time.Since(o.saved) < saveEvery {
		return nil
	}
	return o.save()
}

// drainLocked waits until nothing is in flight.
func (o *outbox) drainLocked() {
	for o.count > 0 {
		o.idle.Wait()
	}
}

// settle notes what became of a request, and moves the position past all that
// are settled with none unsettled before them.
func (o *outbox) settle(r *request, out outcome, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.count--
	o.idle.Broadcast()
	if err == nil && out.refusal != nil {
		err = o.refusedLocked(r, out)
	}
	if err != nil {
		if o.err == nil {
			o.err = err
		}
		o.cancel()
		return
	}
	o.countLocked(r, out.written)
	r.settled, r.body = true, nil
	for len(o.queue) > 0 && o.queue[0].settled {
		done := o.queue[0]
		o.queue = o.queue[1:]
		o.state.Slice, o.state.Series = done.position.slice, done.position.series
		o.state.Samples += uint64(done.counts.samples())
	}
	o.noteLocked()
	o.progressLocked()
}

// refusedLocked judges a 400: an error that ends the import, or one more to count.
func (o *outbox) refusedLocked(r *request, out outcome) error {
	report := &o.importer.report
	refused := r.counts.samples() - out.written.samples()
	text := fmt.Sprintf("block %s: %d of %d samples are refused: %s", report.Blocks[o.block].ID, refused, r.counts.samples(), out.refusal.Text)
	if !o.importer.cfg.ContinueOnError {
		o.countLocked(r, out.written)
		report.Refused += uint64(refused)
		return fmt.Errorf("%s (the others of this request are stored; --continue-on-error passes over what is refused): %w", text, out.refusal)
	}
	report.Refused += uint64(refused)
	if len(report.Refusals) < refusalsListed {
		report.Refusals = append(report.Refusals, text)
	}
	return nil
}

// countLocked adds an answered request to the report.
func (o *outbox) countLocked(r *request, written counts) {
	if r.counts.samples() == 0 {
		return
	}
	report := &o.importer.report
	report.Samples += uint64(written.samples())
	report.Histograms += uint64(written.histograms)
	report.Requests++
	report.Bytes += uint64(len(r.body))
}

func (o *outbox) noteLocked() {
	report := o.importer.report.Blocks
	o.importer.record.Blocks[report[o.block].ID] = o.state
	report[o.block].Done = o.state.Done
}

func (o *outbox) progressLocked() {
	var total uint64
	for _, b := range o.importer.report.Blocks {
		total += b.Samples
	}
	// A block's estimate may be off; its end is not.
	of := o.importer.report.Blocks[o.block].Samples
	done := min(o.state.Samples, of)
	if o.state.Done {
		done = of
	}
	o.importer.cfg.Progress(o.base+done, total)
}

// save writes the state file.
func (o *outbox) save() error {
	o.mu.Lock()
	data, err := o.importer.state.encode()
	o.mu.Unlock()
	if err == nil {
		err = publishState(o.importer.cfg.StateFile, data)
	}
	o.saved = time.Now()
	return err
}

// close ends what is in flight if the import has failed, waits, and saves the
// state. It returns the error that ended the import, given the reader's own.
func (o *outbox) close(readErr error) error {
	if readErr != nil {
		o.cancel()
	}
	o.work.Wait()
	o.mu.Lock()
	err := o.err
	o.importer.report.Retries = uint64(o.sender.retrier.retries.Load())
	o.mu.Unlock()
	// Of a cancelled context everyone has an error; the first failure is why.
	if err == nil || errors.Is(err, context.Canceled) && readErr != nil {
		err = readErr
	}
	return errors.Join(err, o.save())
}
