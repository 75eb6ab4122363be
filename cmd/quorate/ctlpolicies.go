package main

import (
	"context"
	"net/url"
)

type ctlPoliciesAlter struct {
	adminFlags
	Policy      string `arg:"" placeholder:"NAME" help:"The policy's name."`
	Retention   string `name:"retention" placeholder:"DURATION" help:"How old samples may get; acts on all buckets."`
	Replicas    string `name:"replicas" placeholder:"N" help:"How many nodes hold each set; more are added to the sets there are, fewer are for buckets planned from now on."`
	Shards      string `name:"shards" placeholder:"N" help:"Into how many sets a bucket is spread; for buckets planned from now on."`
	Span        string `name:"span" placeholder:"DURATION" help:"How much time a bucket covers; for buckets planned from now on."`
	LateWindow  string `name:"late-window" placeholder:"DURATION" help:"How long after its end a bucket waits for late samples."`
	FutureBound string `name:"future-bound" placeholder:"DURATION" help:"How far ahead of the clock a sample may lie."`
}

func (c *ctlPoliciesAlter) run(ctx context.Context, p process) error {
	parameters := url.Values{"policy": {c.Policy}}
	for name, text := range map[string]string{
		"retention": c.Retention, "replicas": c.Replicas, "shards": c.Shards,
		"span": c.Span, "late_window": c.LateWindow, "future_bound": c.FutureBound,
	} {
		if text != "" {
			parameters.Set(name, text)
		}
	}
	return c.change(ctx, p, "policies/alter", parameters)
}
