// Package tenancy reads which tenant a request speaks for. The name is
// validated here, once, after all decoding; everything behind the edges works
// with the tenant's number.
package tenancy

import (
	"net/http"

	"github.com/quorate/quorate"
)

// DefaultHeader is the header that names the tenant, as in Mimir and Cortex.
const DefaultHeader = "X-Scope-OrgID"

// Config says how requests name their tenant.
type Config struct {
	// Enabled makes the header mandatory. While it is off (the default), every
	// request speaks for quorate.AnonymousTenant and the header is ignored.
	Enabled bool
	// Header is the header's name; empty means DefaultHeader.
	Header string
}

// FromRequest returns the name of the tenant that a request speaks for. Its
// error is of kind Invalid and names the header and the rule: it is missing,
// given more than once, or not a valid tenant name.
func (c Config) FromRequest(r *http.Request) (string, error) {
	if !c.Enabled {
		return quorate.AnonymousTenant, nil
	}
	header := c.Header
	if header == "" {
		header = DefaultHeader
	}
	values := r.Header.Values(header)
	switch len(values) {
	case 0:
		return "", quorate.Errorf(quorate.Invalid, "header %s is missing: it names the tenant", header)
	case 1:
	default:
		return "", quorate.Errorf(quorate.Invalid, "header %s is given %d times: it names one tenant", header, len(values))
	}
	if err := quorate.ValidateTenantName(values[0]); err != nil {
		return "", quorate.Errorf(quorate.Invalid, "header %s: %w", header, err)
	}
	return values[0], nil
}
