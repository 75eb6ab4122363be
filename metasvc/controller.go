package metasvc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate"
)

const (
	// leadershipPoll is how often a node that does not lead looks whether it does.
	leadershipPoll = 100 * time.Millisecond
	// passEvery is how often the loops run when nothing changes: what the
	// passing of time alone makes due is due hours ahead.
	passEvery = 10 * time.Second
	// soonAgain is how soon they run while the metadata group changes its members,
	// or something waits for every node to know of it: heartbeats tell of that.
	soonAgain = time.Second
	// passTimeout bounds one pass.
	passTimeout = 30 * time.Second
	// retryFirst and retryMost bound the pause after a failed pass; it doubles.
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
	// maxRounds bounds how often one pass runs a loop that finds more to do
	// after its actions. No loop needs nearly as many.
	maxRounds = 256
	// maxRefusals is how many of the refusals of one round are told.
	maxRefusals = 8
)

// errNotLeading tells that this node does not lead the metadata group.
var errNotLeading = errors.New("this node does not lead the metadata group")

// errNoProgress is what a loop fails with whose actions change nothing: it
// would commit them again and again.
var errNoProgress = errors.New("the actions changed nothing")

// Action is a change that a loop of the Controller wants.
type Action struct {
	// Loop is the name of the loop.
	Loop string
	// Why says what is wanted and why.
	Why string
	// Command does it, nil where do does.
	Command Command
	// do does what is done to the metadata group itself and not in its log.
	do func(context.Context) error
}

func action(loop, why string, c Command) Action { return Action{Loop: loop, Why: why, Command: c} }

// LoopStatus is how a loop of the Controller fares.
type LoopStatus struct {
	Name   string
	Paused bool
	// LastRun is when the loop ran last; zero is never.
	LastRun time.Time
	// Err is why the last run failed, nil when it did not.
	Err error
	// Actions is how many changes the loop has committed.
	Actions uint64
}

// Controller makes the metadata what it is to be: small loops that compare
// state and clock and propose what is missing. It works only while this node
// leads the metadata group; what a deposed leader still proposes is harmless,
// since Apply judges every command.
type Controller struct {
	cfg     ControllerConfig
	metrics *controllerMetrics
	loops   []loop
	quiet   quietSets

	// These belong to Run.
	// soon tells that the next pass has something to go on with.
	soon bool
	// mapLags tells that something waits for every node to know of it, and this
	// node's own map does not have it yet.
	mapLags bool
	// differing are the settings that were last warned of.
	differing []string
	// undecided are the sets that were last found to have no verdict.
	undecided []quorate.ReplicaSetID

	mu     sync.Mutex // guards what follows
	status []LoopStatus
	// held is changed by Run alone.
	held tenure
}

// NewController returns a controller that waits for Run.
func NewController(cfg ControllerConfig) (*Controller, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	c := &Controller{cfg: cfg}
	if c.metrics, err = newControllerMetrics(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("metadata controller metrics: %w", err)
	}
	c.loops = loops(cfg)
	for _, l := range c.loops {
		c.status = append(c.status, LoopStatus{Name: l.name})
	}
	return c, nil
}

// Run works until ctx ends, and then returns nil.
func (c *Controller) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var changed <-chan struct{}
	pause := retryFirst
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-changed:
		}
		seen := c.cfg.StateMachine.lastChange()
		wait := passEvery
		switch err := c.pass(ctx); {
		case errors.Is(err, errNotLeading):
			wait, pause = leadershipPoll, retryFirst
		case err != nil:
			wait, pause = pause, min(2*pause, retryMost)
			// What the pass itself changed before it failed is no reason to
			// try again at once.
			seen = c.cfg.StateMachine.lastChange()
		default:
			pause = retryFirst
			switch {
			case c.mapLags:
				wait = leadershipPoll
			case c.soon:
				wait = soonAgain
			}
		}
		timer.Reset(wait)
		changed = c.cfg.StateMachine.changedSince(seen)
	}
}

// pass runs all loops once, if this node leads. What they decide on is
// confirmed by the group first, so that a leader in name only does nothing.
func (c *Controller) pass(ctx context.Context) error {
	now := c.cfg.Now()
	term, leading := c.cfg.Leadership()
	if !leading {
		c.mu.Lock()
		c.held = tenure{}
		c.mu.Unlock()
		c.quiet.forget()
		c.noteUndecided(nil)
		c.metrics.leading.Set(0)
		return errNotLeading
	}
	c.observe(term, now)
	c.quiet.observe(term, now, c.cfg.Progress())
	c.metrics.leading.Set(1)
	ctx, cancel := context.WithTimeout(ctx, passTimeout)
	defer cancel()
	err := c.cfg.Leader.ConfirmRead(ctx)
	if err == nil {
		err = c.mayAct()
	}
	if err != nil {
		for i := range c.loops {
			c.finish(ctx, i, now, 0, err)
		}
		return err
	}
	var failed error
	for i, l := range c.loops {
		if c.loopStatus(i).Paused {
			continue
		}
		committed, err := c.run(ctx, l, now)
		c.finish(ctx, i, now, committed, err)
		failed = errors.Join(failed, err)
	}
	var undecided []quorate.ReplicaSetID
	var settings []string
	c.cfg.StateMachine.read(func(s *state) {
		undecided = c.view(s, now, c.tenureNow()).undecided()
		settings = differing(c.cfg.DefaultPolicy, s)
		pending := s.hasPending()
		c.soon = c.soon || pending
		c.mapLags = pending && c.cfg.MapVersion != nil && c.cfg.MapVersion() < s.index
	})
	c.noteUndecided(undecided)
	c.noteDiffering(settings)
	return failed
}

// observe notes what is new since the last pass, and whether the metadata group is
// in the middle of a change, which its log does not tell of.
func (c *Controller) observe(term uint64, now time.Time) {
	held := c.tenureNow()
	if term != held.term {
		held = tenure{term: term, since: now, seen: make(map[quorate.NodeID]time.Time)}
		c.cfg.Logger.Info("metadata controller leads", "term", term)
	}
	c.cfg.StateMachine.read(func(s *state) {
		c.soon = c.cfg.MetaGroup != nil && s.cluster != nil && s.cluster.MetaJoining != nil
		held.observe(s, now)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = held
}

// tenureNow is what this node remembers of the term it leads in; its term is 0 when
// it leads in none.
func (c *Controller) tenureNow() tenure {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held.copied()
}

// noteUndecided raises the alarm over sets that cannot be sealed, once each.
func (c *Controller) noteUndecided(sets []quorate.ReplicaSetID) {
	for _, id := range sets {
		if !slices.Contains(c.undecided, id) {
			c.cfg.Logger.Warn("all live replicas of a set have reported its seal, and no majority agrees: it waits for the others", "set_id", id)
		}
	}
	c.undecided = sets
	c.metrics.undecided.Set(float64(len(sets)))
}

// mayAct tells whether this node may decide anything for the cluster.
func (c *Controller) mayAct() error {
	if off, trusted := clockTrusted(c.cfg.Node.ID, c.cfg.Heartbeats(), c.cfg.Now()); !trusted { // PROTOCOL 17
		return fmt.Errorf("this node's clock is %v away from the median of the nodes', and %v is allowed", off, clockTolerance)
	}
	var cluster quorate.ClusterID
	c.cfg.StateMachine.read(func(s *state) {
		if s.cluster != nil {
			cluster = s.cluster.ID
		}
	})
	if !cluster.IsZero() && cluster != c.cfg.Cluster { // PROTOCOL 16
		return fmt.Errorf("the metadata is of cluster %s, and this node belongs to cluster %s", cluster, c.cfg.Cluster)
	}
	return nil
}

// view is what a leader of that tenure decides on.
func (c *Controller) view(s *state, now time.Time, held tenure) view {
	return view{
		state: s, now: now, self: c.cfg.Node.ID, beats: c.cfg.Heartbeats(),
		term: held.term, leadingSince: held.since, seen: held.seen, begun: held.begun, quiet: c.quiet.since(),
		steady: held.clock.runs(now, c.cfg.DropAfterLeading), mapVersion: c.cfg.MapVersion,
	}.index()
}

// run plans and commits what a loop wants until it wants nothing more. What one
// action is refused for is no reason not to commit the others.
func (c *Controller) run(ctx context.Context, l loop, now time.Time) (committed uint64, err error) {
	for range maxRounds {
		var actions []Action
		c.cfg.StateMachine.read(func(s *state) {
			actions, err = l.plan(c.view(s, now, c.tenureNow()))
		})
		if err != nil || len(actions) == 0 {
			return committed, err
		}
		before := c.cfg.StateMachine.lastChange()
		var refusals error
		refused := 0
		done := false
		for _, a := range actions {
			var refusal *Refusal
			err := c.commit(ctx, a)
			switch {
			case err == nil:
				committed++
				done = done || a.do != nil
				c.soon = c.soon || done
				continue
			case !errors.As(err, &refusal):
				return committed, errors.Join(fmt.Errorf("%s: %w", a.Why, err), refusals)
			}
			if refused++; refused <= maxRefusals {
				refusals = errors.Join(refusals, fmt.Errorf("%s: %w", a.Why, err))
			}
		}
		if c.cfg.StateMachine.lastChange() != before {
			continue // what was refused is refused again, or due no more
		}
		if refused > maxRefusals {
			refusals = errors.Join(refusals, fmt.Errorf("and %d more", refused-maxRefusals))
		}
		if refusals != nil || done { // what was done shows in the next pass
			return committed, refusals
		}
		return committed, errNoProgress
	}
	return committed, fmt.Errorf("%w: not settled after %d rounds", errNoProgress, maxRounds)
}

// commit proposes one action. Its typed result says nothing that the state
// does not show, so it is enough that it is no refusal; a dispute is an alarm.
func (c *Controller) commit(ctx context.Context, a Action) error {
	if a.do != nil {
		if err := a.do(ctx); err != nil {
			return err
		}
		c.cfg.Logger.Info("metadata action", "loop", a.Loop, "why", a.Why)
		return nil
	}
	answer, err := propose[any](ctx, c.cfg.Leader, a.Command)
	if err != nil {
		return err
	}
	if judged, ok := answer.(JudgeSealResult); ok && judged.State == ReplicaSetDisputed {
		c.cfg.Logger.Warn("replicas differ and their set cannot be sealed: nothing of it is deleted", "set_id", a.Command.(JudgeSeal).Set)
		return nil
	}
	c.cfg.Logger.Info("metadata action", "loop", a.Loop, "why", a.Why)
	return nil
}

// finish notes how a loop's run went. A failure is logged when it begins or
// changes, not each time it is tried again.
func (c *Controller) finish(ctx context.Context, i int, now time.Time, committed uint64, err error) {
	c.mu.Lock()
	st := &c.status[i]
	news := err != nil && (st.Err == nil || st.Err.Error() != err.Error())
	st.LastRun, st.Err = now, err
	st.Actions += committed
	c.mu.Unlock()
	c.metrics.passes.WithLabelValues(st.Name, resultOf(err)).Inc()
	c.metrics.actions.WithLabelValues(st.Name).Add(float64(committed))
	if news && ctx.Err() == nil {
		c.cfg.Logger.Warn("metadata controller loop failed", "loop", st.Name, "err", err)
	}
}

// LoopError is why a loop does not do, or not all of, what it is there for.
type LoopError struct {
	Loop string
	Err  error
}

// Error tells the loop and what it fails with.
func (e *LoopError) Error() string { return e.Loop + ": " + e.Err.Error() }

// Unwrap returns what the loop fails with.
func (e *LoopError) Unwrap() error { return e.Err }

// LoopErrors takes the error of a DryRun apart; ok tells that it is about loops
// alone, and the actions are what the others would do.
func LoopErrors(err error) (failed []*LoopError, ok bool) {
	if err == nil {
		return nil, true
	}
	list := []error{err}
	if joined, several := err.(interface{ Unwrap() []error }); several {
		list = joined.Unwrap()
	}
	for _, err := range list {
		var l *LoopError
		if !errors.As(err, &l) {
			return nil, false
		}
		failed = append(failed, l)
	}
	return failed, true
}

// DryRun returns what the loops would commit now, paused ones included, and why
// those that could not plan, or were refused, failed: see LoopErrors. It commits nothing: the
// actions are played on a copy of the state. Of a node that leads it is what the next
// pass does, if no heartbeat changes it; of another, what the node would do as a
// leader that has just begun: it has heard of nobody, and no lease has run out.
func (c *Controller) DryRun() ([]Action, error) {
	s := c.cfg.StateMachine.snapshot()
	now := c.cfg.Now()
	held := c.tenureNow()
	if held.term == 0 {
		held = tenure{since: now}
	} else if err := c.mayAct(); err != nil {
		return nil, err
	}
	var all []Action
	var failed []error
	fail := func(l loop, err error) {
		text := (&LoopError{l.name, err}).Error()
		if !slices.ContainsFunc(failed, func(e error) bool { return e.Error() == text }) { // a refused action is planned again
			failed = append(failed, &LoopError{l.name, err})
		}
	}
	for _, l := range c.loops {
		for range maxRounds {
			v := c.view(s, now, held)
			v.mapVersion = func() uint64 { return s.index } // this node's map follows at once
			actions, err := l.plan(v)
			if err != nil {
				fail(l, err)
				break
			}
			done := 0
			for _, a := range actions {
				if a.Command == nil {
					all = append(all, a)
					continue // what comes of it cannot be played
				}
				s.index++
				if refused, ok := a.Command.apply(s, held.term).(*Refusal); ok {
					fail(l, fmt.Errorf("%s: %w", a.Why, refused))
					continue
				}
				all = append(all, a)
				done++
			}
			if done == 0 {
				break
			}
		}
	}
	return all, errors.Join(failed...)
}

// Leading tells since when this node leads the metadata group, and whether it does.
func (c *Controller) Leading() (since time.Time, leads bool) {
	held := c.tenureNow()
	return held.since, held.term != 0
}

// CheckLoop tells whether a Controller has a loop of that name.
func CheckLoop(name string) error {
	var names []string
	for _, l := range loops(ControllerConfig{}) {
		if l.name == name {
			return nil
		}
		names = append(names, l.name)
	}
	return quorate.Errorf(quorate.NotFound, "the metadata controller has no loop %q; it has %s", name, strings.Join(names, ", "))
}

// Pause makes a loop do nothing until Resume. The switch is this controller's and
// lasts as long as the process.
func (c *Controller) Pause(loop string) error { return c.setPaused(loop, true) }

// Resume undoes Pause.
func (c *Controller) Resume(loop string) error { return c.setPaused(loop, false) }

func (c *Controller) setPaused(loop string, paused bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.status {
		if c.status[i].Name == loop {
			c.status[i].Paused = paused
			return nil
		}
	}
	return CheckLoop(loop)
}

// Status returns how the loops fare, in the order in which they run.
func (c *Controller) Status() []LoopStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.status)
}

func (c *Controller) loopStatus(i int) LoopStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status[i]
}
