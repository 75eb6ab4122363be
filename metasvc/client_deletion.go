package metasvc

import (
	"context"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// effectTimeout bounds the wait for all nodes to know of a deletion: a map
// lease, and as long again for the controller to see it run out.
const effectTimeout = 2 * MapLease

// Delete records a deletion on sealed sets and returns its number once reads on
// every node apply it (PROTOCOL 8, 19). The same deletion may be asked for
// again. The error is of kind Invalid for a deletion that breaks its rules or
// names no set; NotFound for an unknown tenant or set; else Unavailable: a set
// is not sealed, or was replaced, or its overlay is being sealed, or there are
// as many deletions as there may be.
func (c *Client) Delete(ctx context.Context, d wire.Deletion, sets []quorate.ReplicaSetID) (id uint64, err error) {
	if err := d.Check(); err != nil {
		return 0, err
	}
	body := d.Append(nil)
	if _, err := wire.DecodeDeletion(body); err != nil {
		return 0, quorate.Errorf(quorate.Invalid, "deletion of tenant %d: %w", d.Tenant, err)
	}
	created, err := propose[DeleteResult](ctx, c.cfg.Leader, CreateDelete{Body: body, Sets: rising(sets)})
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, effectTimeout)
	defer cancel()
	m, err := c.awaitVersion(ctx, created.Index)
	for err == nil && m.tables.deletionIDs[created.Deletion] {
		m, err = c.AwaitMap(ctx, m)
	}
	if err != nil {
		return 0, unavailable(err, "deletion %d is not known to be applied by every node", created.Deletion)
	}
	return created.Deletion, nil
}
