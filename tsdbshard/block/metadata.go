package block

import (
	"encoding/binary"
	"fmt"
	"math"
	"sort"

	"github.com/quorate/quorate"
	"github.com/quorate/quorate/internal/cursor"
	"github.com/quorate/quorate/internal/wire"
)

// metadataTarget is the size at which a page of metadata is closed, before
// compression.
const metadataTarget = 32 << 10

// metadataWriter gathers metadata into pages, ordered by tenant and family.
type metadataWriter struct {
	rows   rowsWriter
	n      uint32
	tenant quorate.TenantID
	family string
}

func (w *metadataWriter) add(tenant quorate.TenantID, m *wire.Metadata) error {
	if w.n > 0 && (tenant < w.tenant || tenant == w.tenant && m.Family <= w.family) {
		return fmt.Errorf("metadata of tenant %v, family %q: %w", tenant, m.Family, errOrder)
	}
	if w.rows.begin(w.n) {
		w.rows.key = metadataKey(tenant, m.Family)
	}
	b := binary.AppendUvarint(w.rows.body, uint64(tenant))
	b = cursor.AppendBytes(b, m.Family)
	b = cursor.AppendBytes(b, m.Type)
	b = cursor.AppendBytes(b, m.Unit)
	w.rows.body = cursor.AppendBytes(b, m.Help)
	w.n++
	w.tenant, w.family = tenant, m.Family
	return nil
}

// metadataKey is a key of the directory: it sorts as tenant and family do.
func metadataKey(tenant quorate.TenantID, family string) string {
	return string(binary.BigEndian.AppendUint64(nil, uint64(tenant))) + family
}

func readMetadata(c *cursor.Cursor) (quorate.TenantID, wire.Metadata, error) {
	tenant := quorate.TenantID(c.Uvarint())
	m := wire.Metadata{Family: c.String(), Type: c.String(), Unit: c.String(), Help: c.String()}
	if c.Bad {
		return 0, m, fmt.Errorf("%w: bad metadata", ErrDamaged)
	}
	return tenant, m, nil
}

// metadata calls visit with all metadata of a block, in order.
func (f *file) metadata(visit func(quorate.TenantID, wire.Metadata) error) error {
	return f.eachRow(pageMetadata, func(c *cursor.Cursor, _ bool, _ uint32) error {
		tenant, m, err := readMetadata(c)
		if err != nil {
			return err
		}
		return visit(tenant, m)
	})
}

// metadataOf calls visit with the metadata of one family of a tenant, or of
// all when family is empty.
func (f *file) metadataOf(tenant quorate.TenantID, family string, visit func(wire.Metadata)) error {
	s := &f.dir.sections[pageMetadata]
	from, to := metadataKey(tenant, family), metadataKey(tenant, family)+"\x00"
	if family == "" {
		to = metadataKey(tenant+1, "") // the last of all tenants wraps around, below
	}
	first := sort.Search(len(s.keys), func(i int) bool { return s.keys[i] > from }) - 1
	for i := max(0, first); i < len(s.pages) && (s.keys[i] < to || tenant == math.MaxUint64); i++ {
		err := f.rowsOf(pageMetadata, i, func(c *cursor.Cursor, _ bool, _ uint32) error {
			t, m, err := readMetadata(c)
			if err == nil && t == tenant && (family == "" || m.Family == family) {
				visit(m)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
