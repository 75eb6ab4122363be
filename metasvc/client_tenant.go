package metasvc

import (
	"context"
	"time"

	"github.com/quorate/quorate"
)

// Tenant returns the tenant of a name and whether there is one, as of the
// newest map. It takes about 0.6 µs. The error is of kind Unavailable: this
// node knows no metadata yet.
func (c *Client) Tenant(ctx context.Context, name string) (t Tenant, found bool, err error) {
	t, _, found, err = c.TenantMap(ctx, name)
	return t, found, err
}

// TenantMap returns the tenant of a name together with the map of the same
// version, for whoever needs both (PROTOCOL 7).
func (c *Client) TenantMap(ctx context.Context, name string) (t Tenant, m *Map, found bool, err error) {
	for {
		m = c.Map()
		if m.Cluster == nil {
			return Tenant{}, nil, false, quorate.Errorf(quorate.Unavailable, "tenant %q: no metadata is known yet", name)
		}
		if m.Loaded() {
			if t := m.loaded.tenantByName[name]; t != nil {
				return *t, m, true, nil
			}
			return Tenant{}, m, false, nil
		}
		if t, found, hit := c.tenants.get(m.slots[tenantSlot(name)], name); hit {
			return t, m, found, nil
		}
		record, index := c.machine.tenant(name)
		if m, err = c.awaitVersion(ctx, index); err != nil {
			return Tenant{}, nil, false, err
		}
		slot := m.slots[tenantSlot(name)]
		if slot > index {
			// The tenant may have changed since it was read, or the state machine
			// was opened anew, behind what it had followed to.
			if err := c.machine.Await(ctx, slot); err != nil {
				return Tenant{}, nil, false, unavailable(err, "tenant %q", name)
			}
			continue
		}
		// Unchanged from index to the map's version: the record is the map's.
		c.tenants.put(slot, name, record)
		if record == nil {
			c.metrics.tenantMisses.WithLabelValues(resultMissing).Inc()
			return Tenant{}, m, false, nil
		}
		c.metrics.tenantMisses.WithLabelValues(resultFound).Inc()
		return *record, m, true, nil
	}
}

// EnsureTenant returns the tenant of a name and creates it, under the default
// policy, when there is none. Callers for one name wait for one creation. The
// error is of kind Invalid for a name that breaks the rules, and Unavailable
// otherwise.
func (c *Client) EnsureTenant(ctx context.Context, name string) (Tenant, error) {
	t, found, err := c.Tenant(ctx, name)
	if err != nil || found {
		return t, err
	}
	if err := quorate.ValidateTenantName(name); err != nil {
		return Tenant{}, err
	}
	err = c.flights.do(ctx, "tenant/"+name, func() error { return c.createTenant(ctx, name) })
	if err != nil {
		return Tenant{}, err
	}
	if t, found, err = c.Tenant(ctx, name); err == nil && !found {
		err = quorate.Errorf(quorate.Unavailable, "tenant %q was removed as it was created", name)
	}
	return t, err
}

func (c *Client) createTenant(ctx context.Context, name string) error {
	_, m, found, err := c.TenantMap(ctx, name)
	if err != nil || found {
		return err
	}
	policy := m.PolicyNamed(c.cfg.DefaultPolicy)
	if policy == nil {
		return quorate.Errorf(quorate.Unavailable, "tenant %q: policy %q does not exist yet", name, c.cfg.DefaultPolicy)
	}
	var tenants int
	var index uint64
	c.machine.read(func(s *state) {
		tenants, index = len(s.tenants), s.index
		found = s.tenantByName[name] != nil
	})
	if found { // since the map's version
		_, err := c.awaitVersion(ctx, index)
		return err
	}
	if tenants >= c.cfg.MaxTenants {
		return quorate.Errorf(quorate.Unavailable, "tenant %q would be one more than the %d there may be", name, c.cfg.MaxTenants)
	}
	created, err := propose[TenantResult](ctx, c.cfg.Leader, CreateTenant{
		Name: name, Policy: policy.ID, Created: c.cfg.Now().UnixMilli(),
	})
	if err != nil {
		return err
	}
	if created.Created {
		c.metrics.tenantsCreated.Inc()
		c.logger.Info("tenant created", "tenant", name, "tenant_id", created.Tenant)
	}
	_, err = c.awaitVersion(ctx, created.Index)
	return err
}

// TenantName returns the name of a tenant and whether there is one of that ID.
func (c *Client) TenantName(id quorate.TenantID) (name string, found bool) {
	if loaded := c.Map().loaded; loaded != nil {
		if t := loaded.tenants[id]; t != nil {
			return t.Name, true
		}
		return "", false
	}
	c.machine.read(func(s *state) {
		if t := s.tenants[id]; t != nil {
			name, found = t.Name, true
		}
	})
	return name, found
}

// Tenants returns all tenants by ID, for administration.
func (c *Client) Tenants() (list []Tenant) {
	add := func(s *state) {
		for _, t := range byKey(s.tenants) {
			list = append(list, *t)
		}
	}
	if loaded := c.Map().loaded; loaded != nil {
		add(loaded)
		return list
	}
	c.machine.read(add)
	return list
}

// SetTenantRetention sets how old a tenant's samples may be where that is less
// than its policy's retention; 0 leaves it to the policy. One that is longer
// than the policy's is kept and has no effect. The error is of kind Invalid for
// less than 1 ms or more than MaxRetention, NotFound for an unknown tenant,
// else Unavailable.
func (c *Client) SetTenantRetention(ctx context.Context, tenant quorate.TenantID, retention time.Duration) error {
	if retention < 0 || retention%time.Millisecond != 0 {
		return quorate.Errorf(quorate.Invalid, "tenant %d: retention %v is not a whole number of milliseconds from 0", tenant, retention)
	}
	set, err := propose[TenantResult](ctx, c.cfg.Leader, SetTenantRetention{Tenant: tenant, Retention: retention})
	if err != nil {
		return err
	}
	_, err = c.awaitVersion(ctx, set.Index)
	return err
}
