package metasvc

import (
	"context"

	"github.com/quorate/quorate"
)

// Join has a node admitted to the cluster, or what changed about it recorded, and
// returns its number. It does not wait for this node's map. The error is of kind
// Invalid for a node that breaks the rules or was removed from the cluster, else
// Unavailable.
func (c *Client) Join(ctx context.Context, node NodeSpec) (number uint64, err error) {
	admitted, err := propose[AdmitNodeResult](ctx, c.cfg.Leader, AdmitNode{Node: node})
	return admitted.Number, err
}

// DrainNode has a node's replicas moved away, and none placed on it any more. It
// returns when that is recorded; the map shows what is left. The error is of kind
// NotFound for an unknown node, Invalid for one that was removed, else Unavailable.
func (c *Client) DrainNode(ctx context.Context, node quorate.NodeID) error {
	return c.changeNode(ctx, DrainNode{Node: node})
}

// UndrainNode undoes DrainNode. Its errors are DrainNode's.
func (c *Client) UndrainNode(ctx context.Context, node quorate.NodeID) error {
	return c.changeNode(ctx, UndrainNode{Node: node})
}

// RemoveNode takes a node out of the cluster for ever. Its errors are DrainNode's;
// Unavailable is also a node that still holds a replica of a set or of the
// metadata.
func (c *Client) RemoveNode(ctx context.Context, node quorate.NodeID) error {
	return c.changeNode(ctx, RemoveNode{Node: node})
}

func (c *Client) changeNode(ctx context.Context, command Command) error {
	changed, err := propose[NodeResult](ctx, c.cfg.Leader, command)
	if err != nil {
		return err
	}
	_, err = c.awaitVersion(ctx, changed.Index)
	return err
}
