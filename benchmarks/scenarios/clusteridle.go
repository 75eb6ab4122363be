package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// openBuckets is how many buckets of a day's span a new cluster opens: that of
// yesterday, whose late window may be open, today's and two ahead. A shard is a
// group in each.
const openBuckets = 4

// clusterIdle measures a cluster of three nodes that does nothing, with more and
// more Raft groups to do nothing about.
type clusterIdle struct {
	Groups []int         `default:"4,50,200" help:"Live groups beside that of the metadata, in multiples of 4; of two in a row the difference is what a group costs."`
	Settle time.Duration `default:"10s" help:"For how long no node may have written to a log before anything is watched."`
	Watch  time.Duration `default:"60s" help:"How long CPU time and messages are watched."`
}

func (c *clusterIdle) run(ctx context.Context, l *lab) error {
	l.printf("3 nodes, 3 replicas of each group; figures are those of one node, the mean of three\n\n")
	l.printf("| groups | idle CPU %% of one core | messages/s | frames/s | calls/s | goroutines | RSS MB | heap MB |\n|---|---|---|---|---|---|---|---|\n")
	var before standing
	for i, groups := range c.Groups {
		now, err := c.stand(ctx, l, max(1, (groups+openBuckets/2)/openBuckets))
		if err != nil {
			return err
		}
		l.printf("| %.0f | %.2f | %.1f | %.1f | %.1f | %.0f | %.1f | %.1f |\n",
			now.groups, 100*now.cpu, now.messages, now.frames, now.calls, now.goroutines, now.rss/1e6, now.heap/1e6)
		if more := now.groups - before.groups; i > 0 && more > 0 {
			l.printf("| each of the %.0f more | %.4f | %.2f | %.2f | %.2f | %.1f | %.3f | %.3f |\n",
				more, 100*(now.cpu-before.cpu)/more, (now.messages-before.messages)/more, (now.frames-before.frames)/more,
				(now.calls-before.calls)/more, (now.goroutines-before.goroutines)/more, (now.rss-before.rss)/1e6/more, (now.heap-before.heap)/1e6/more)
		}
		before = now
	}
	return nil
}

// standing is what one node takes that does nothing: the mean of a cluster's.
// Memory is in bytes, cpu a share of one core, and traffic what the node sends, a
// second.
type standing struct {
	groups, cpu, messages, frames, calls, goroutines, rss, heap float64
}

// stand measures a new cluster.
func (c *clusterIdle) stand(ctx context.Context, l *lab, shards int) (standing, error) {
	servers, err := l.startCluster(ctx, 3, "buckets:", fmt.Sprintf("  shards: %d", shards))
	if err != nil {
		return standing{}, err
	}
	if err := c.settle(ctx, servers); err != nil {
		return standing{}, errors.Join(err, servers.explain())
	}
	var sum standing
	before := make([]standing, len(servers.nodes))
	for i, s := range servers.nodes {
		rss, err := s.settledRSS(ctx)
		if err != nil {
			return sum, errors.Join(err, servers.explain())
		}
		if before[i], err = s.standing(ctx); err != nil {
			return sum, err
		}
		sum.rss += float64(rss)
	}
	if err := wait(ctx, c.Watch); err != nil {
		return sum, err
	}
	for i, s := range servers.nodes {
		after, err := s.standing(ctx)
		if err != nil {
			return sum, err
		}
		seconds := c.Watch.Seconds()
		sum.groups += after.groups
		sum.goroutines += after.goroutines
		sum.heap += after.heap
		sum.cpu += (after.cpu - before[i].cpu) / seconds
		sum.messages += (after.messages - before[i].messages) / seconds
		sum.frames += (after.frames - before[i].frames) / seconds
		sum.calls += (after.calls - before[i].calls) / seconds
	}
	return sum.over(float64(len(servers.nodes))), servers.stop()
}

// settle waits until all groups are formed and have leaders, which is when
// nothing is written to their logs any more.
func (c *clusterIdle) settle(ctx context.Context, servers *cluster) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	before := -1.0
	for {
		now, err := servers.total(ctx, "quorate_raft_log_store_seconds")
		if err != nil || now == before {
			return err
		}
		before = now
		if err := wait(ctx, c.Settle); err != nil {
			return fmt.Errorf("wait for the groups to settle: %w", err)
		}
	}
}

func (s standing) over(n float64) standing {
	return standing{
		groups: s.groups / n, cpu: s.cpu / n, messages: s.messages / n, frames: s.frames / n,
		calls: s.calls / n, goroutines: s.goroutines / n, rss: s.rss / n, heap: s.heap / n,
	}
}

// standing reads a node's counters; cpu is in seconds since its start.
func (s *server) standing(ctx context.Context) (standing, error) {
	cpu, err := s.processes().CPU()
	if err != nil {
		return standing{}, err
	}
	families, err := s.metrics(ctx)
	if err != nil {
		return standing{}, err
	}
	return standing{
		cpu:        cpu.Seconds(),
		groups:     sum(families["quorate_raft_groups"], ""),
		messages:   sum(families["quorate_peer_messages_total"], "sent"),
		frames:     sum(families["quorate_peer_frames_total"], ""),
		calls:      sum(families["quorate_peer_calls_total"], ""),
		goroutines: sum(families["go_goroutines"], ""),
		heap:       sum(families["go_memstats_heap_inuse_bytes"], ""),
	}, nil
}

// wait waits.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
