package metasvc

import (
	"context"

	"github.com/quorate/quorate"
)

// AlterPolicy has a policy say something else; its name stays. A retention, and a
// replica count that grows, act on what is there; the rest on buckets that are not
// planned yet (PROTOCOL 11). It returns when this node's map has it. The error is of
// kind Invalid for fields that break the rules, NotFound for a policy that does not
// exist, else Unavailable.
func (c *Client) AlterPolicy(ctx context.Context, policy quorate.PolicyID, spec PolicySpec) error {
	altered, err := propose[PolicyResult](ctx, c.cfg.Leader, AlterPolicy{ID: policy, Policy: spec})
	if err != nil {
		return err
	}
	if _, err := c.awaitVersion(ctx, altered.Index); err != nil {
		return err
	}
	c.logger.Info("policy altered", "policy_id", policy, "policy", spec.Name)
	return nil
}
