package node

import (
	"net/http"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/config"
	"github.com/quorate/quorate/metasvc"
)

// The parameters of a change of a policy, by the names of the settings that found
// the default one.
var policyParameters = []string{"span", "shards", "replicas", "late_window", "retention", "future_bound"}

// alterPolicy changes what a policy says, by the rules of the settings, and answers
// with the policy.
func (a *clusterAdmin) alterPolicy(r *http.Request) (any, error) {
	if err := a.client.ConfirmMap(r.Context()); err != nil {
		return nil, err
	}
	name := r.FormValue("policy")
	p := a.client.Map().PolicyNamed(name)
	if p == nil {
		return nil, quorate.Errorf(quorate.NotFound, "policy %q does not exist", name)
	}
	if name == metasvc.DefaultPolicyName && a.isLone() {
		return nil, quorate.Errorf(quorate.Invalid, "policy %q of a lone node says what the node's settings say (buckets.*): change them there", name)
	}
	changes := make(map[string]string)
	for _, parameter := range policyParameters {
		if text := r.FormValue(parameter); text != "" {
			changes[parameter] = text
		}
	}
	if len(changes) == 0 {
		return nil, quorate.Errorf(quorate.Invalid, "nothing of policy %q is to be changed", name)
	}
	altered, err := config.Buckets{
		Span: p.Span, Shards: p.Shards, Replicas: p.Replicas, LateWindow: p.LateWindow, Retention: p.Retention, FutureBound: p.FutureBound,
	}.Altered(changes)
	if err != nil {
		return nil, quorate.Errorf(quorate.Invalid, "policy %q: %w", name, err)
	}
	if err := a.client.AlterPolicy(r.Context(), p.ID, policyOf(p.PolicySpec, altered)); err != nil {
		return nil, err
	}
	return listPolicy(a.client.Map().Policy(p.ID)), nil
}

// isLone tells whether the cluster has one node.
func (a *clusterAdmin) isLone() bool {
	nodes := 0
	for _, n := range a.client.Map().Nodes() {
		if n.State != metasvc.NodeRemoved {
			nodes++
		}
	}
	return nodes == 1
}

// policyOf is a policy with what settings say of it.
func policyOf(p metasvc.PolicySpec, b config.Buckets) metasvc.PolicySpec {
	p.Span, p.Shards, p.Replicas = b.Span, b.Shards, b.Replicas
	p.LateWindow, p.Retention, p.FutureBound = b.LateWindow, b.Retention, b.FutureBound
	return p
}
