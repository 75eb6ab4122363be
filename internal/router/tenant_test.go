package router

import (
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/metasvc"
)

// A name that was given up and is taken again names another tenant: the same sample
// is no duplicate there, another value no conflict, and no ref is still good.
func TestProtocol1ATenantCreatedAgainHasNothingOfTheOldOne(t *testing.T) {
	r := newRig(t)
	l := labels.FromStrings("__name__", "m")
	r.mustWrite(t, metric{l, []float{{at(-10), 1}, {at(-5), 1}}})
	old := r.tenant
	r.leader.do(t, metasvc.DeleteTenant{Tenant: old})
	r.tenant = r.leader.do(t, metasvc.CreateTenant{Name: "team", Policy: 1}).(metasvc.TenantResult).Tenant
	if r.tenant == old {
		t.Fatalf("tenant number %v is used again", old)
	}
	if err := r.client.ConfirmMap(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, r.read(t, named("m")))
	result, s, err := r.write(t, metric{l, []float{{at(-10), 1}, {at(-5), 2}}})
	if err != nil || result.Floats != 2 || result.Duplicates != 0 || s.parsed != 1 {
		t.Errorf("got %+v, %v, and labels were parsed %d times; want two new samples of a new series", result, err, s.parsed)
	}
	expect(t, r.read(t, named("m")), `{__name__="m"}: -10=1 -5=2`)
	if _, err := r.Querier(t.Context(), old, at(-20), at(0)); quorate.KindOf(err) != quorate.NotFound {
		t.Errorf("a query of the tenant that is gone got %v", err)
	}
}

// A tenant that moves to another policy writes each sample by the policy of its time
// and reads those of all.
func TestProtocol11ReadsGoToEveryPolicyOfTheirWindow(t *testing.T) {
	r := newRig(t)
	end := now.Truncate(time.Hour).UnixMilli() + 2*hour // of the last bucket that is planned
	policy := metasvc.DefaultPolicy()
	policy.Name, policy.Span = "second", time.Hour
	second := r.leader.do(t, metasvc.CreatePolicy{Policy: policy}).(metasvc.PolicyResult).Policy
	r.leader.do(t, metasvc.MoveTenant{Tenant: r.tenant, Policy: second, From: end})
	for _, policy := range []quorate.PolicyID{1, second} {
		r.planUnder(t, policy, quorate.TimeRange{Start: end, End: end + hour})
	}
	r.turnTo("14:05:00")
	l, moved := labels.FromStrings("__name__", "m"), (end-now.UnixMilli())/1000
	r.mustWrite(t, metric{l, []float{{at(moved - 1), 1}, {at(moved), 2}}})
	expect(t, r.read(t, named("m")), `{__name__="m"}: 5399=1 5400=2`)
	for policy, want := range map[quorate.PolicyID]uint64{1: 0, second: 1} {
		series := uint64(0)
		for _, b := range r.client.Map().BucketsOverlapping(policy, end, end) {
			for _, set := range b.Sets {
				replica, err := r.replicas.Get(set.ID)
				if err != nil {
					t.Fatal(err)
				}
				view, err := replica.View(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				series += view.Tenant(r.tenant).NumSeries()
				view.Close()
			}
		}
		if series != want {
			t.Errorf("after the move policy %v has %d series of the tenant, want %d", policy, series, want)
		}
	}
}
