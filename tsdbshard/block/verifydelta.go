package block

import (
	"fmt"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/wire"
)

// delta checks the pages of a delta block.
func (v *verifier) delta() error {
	d := &Delta{file: v.f}
	err := d.Definitions(func(ref uint32, tenant quorate.TenantID, canonical []byte) error {
		if err := v.step(); err != nil {
			return err
		}
		if err := wire.CheckLabels(canonical); err != nil {
			return fmt.Errorf("%w: series %d: %w", ErrDamaged, ref, err)
		}
		v.found.Series++
		v.tenants[tenant] = struct{}{}
		return nil
	})
	if err != nil {
		return err
	}
	if err := v.deltaRows(d); err != nil {
		return err
	}
	if err := v.exemplars(d.dir.header.delta.FirstRef + v.found.Series); err != nil {
		return err
	}
	return v.metadata()
}

func (v *verifier) deltaRows(d *Delta) error {
	rows := d.Rows()
	rows.meet = v.meet
	for rows.Next() {
		if err := v.step(); err != nil {
			return err
		}
		if err := v.chunks(rows.Chunks(), quorate.Forever); err != nil {
			return fmt.Errorf("series %d: %w", rows.Ref(), err)
		}
		v.found.Rows++
	}
	if err := rows.Err(); err != nil {
		return err
	}
	return v.samplesTimes()
}
